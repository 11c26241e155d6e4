"""Clear the outputs of every cell that runs: the book makes them anew. Cells marked `gpu` or `eval: false` keep theirs.

nbdev_clean, which runs before this, takes away metadata and execution counts but leaves outputs.
"""

import json

from nbdev.clean import write_nb
from nbdev_book import ROOT, cell_tags, split_directives


def main() -> None:
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        nb = json.loads(path.read_text(encoding="utf-8"))
        dirty = [cell for cell in nb["cells"] if cell.get("outputs")
                 and "skip-execution" not in cell_tags(*split_directives("".join(cell["source"])))]
        for cell in dirty:
            cell["outputs"] = []
        if dirty:
            write_nb(nb, path)
            print(f"cleared the outputs of {len(dirty)} cells: {path.name}")


if __name__ == "__main__":
    main()
