"""Files are written in one room: a walk over the package finds no write that does not fill a draft of `musevae.store`.

A second walk finds control that hangs on the wording of a message.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "musevae"

# Methods and functions that put something on a disk, by their last name; those with a dot only with that module before it.
WRITERS = {
    "write_text", "write_bytes", "mkdir", "touch", "savefig", "save_file", "open_memmap", "tofile", "to_parquet", "to_pickle",
    "os.replace", "os.rename", "os.mkdir", "os.makedirs", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree",
    "shutil.move", "np.save", "np.savez", "np.savez_compressed", "np.savetxt", "np.memmap", "torch.save", "json.dump",
    "pickle.dump", "sf.write", "soundfile.write", "exported.save", "image.save",
}  # fmt: skip
DRAFTS = ("writing", "building")  # what `with ... as name` makes `name` a draft
OURS = {"write_text", "write_bytes"}  # as functions these are the store's own

# Functions that still write by themselves, "module.function": none.
ALLOWED: set[str] = set()


def name_of(node):
    "The dotted name of what is called: `os.replace`, `path.write_text`; '' before a dot for anything but a name."
    if isinstance(node, ast.Attribute):
        return f"{node.value.id if isinstance(node.value, ast.Name) else ''}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def names_in(node):
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def drafts_of(function):
    "Names in a function that stand for a draft, or for a file in memory; a parameter called `draft` is one."
    found = {"draft"} & {a.arg for a in ast.walk(function) if isinstance(a, ast.arg)}
    for node in ast.walk(function):
        if isinstance(node, ast.With):
            for item in node.items:
                call = item.context_expr
                made = isinstance(call, ast.Call) and name_of(call.func).split(".")[-1] in DRAFTS
                if made or isinstance(call, ast.Call) and name_of(call.func) == "open" and names_in(call) & found:
                    found |= names_in(item.optional_vars) if item.optional_vars else set()
        pairs = [(node.targets[0], node.value)] if isinstance(node, ast.Assign) else []
        pairs += [(node.target, node.value)] if isinstance(node, ast.NamedExpr) else []
        for target, value in pairs:
            if isinstance(value, ast.Call) and name_of(value.func).split(".")[-1] in ("BytesIO", "StringIO"):
                found |= names_in(target)
    return found


def opens_for_writing(call):
    "Whether a call named open asks for more than reading."
    method = isinstance(call.func, ast.Attribute)
    given = [a.value for a in call.args[0 if method else 1 :] if isinstance(a, ast.Constant)]
    given += [k.value.value for k in call.keywords if k.arg == "mode" and isinstance(k.value, ast.Constant)]
    return any(isinstance(mode, str) and set(mode) & set("wax+") for mode in given)


def is_write(call):
    "Whether a call puts something on a disk."
    full = name_of(call.func)
    last = full.split(".")[-1]
    if last == "open":
        return opens_for_writing(call) and "devnull" not in ast.dump(call)
    if last == "to_csv":
        return bool(call.args) or any(k.arg == "path_or_buf" for k in call.keywords)
    if isinstance(call.func, ast.Name) and last in OURS:
        return False
    return full in WRITERS or last in WRITERS


def writes(source, module="sample"):
    "Every write in `source` that fills no draft, as `module.function: call`."
    def visit(node, function, drafts):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function, drafts = node.name, drafts | drafts_of(node)
        if isinstance(node, ast.Call) and is_write(node) and not names_in(node) & drafts:
            yield f"{module}.{function}: {name_of(node.func)}"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function, drafts)

    return list(visit(ast.parse(source), "", set()))


MODULES = [p for p in sorted(PACKAGE.rglob("*.py")) if p.name not in ("store.py", "_modidx.py")]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_only_the_store_writes_files(path):
    module = path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
    found = [w for w in writes(path.read_text(encoding="utf-8"), module) if w.split(":")[0] not in ALLOWED]
    assert not found, "these write without a draft of musevae.store (writing, building, write_text, write_all ...)"


@pytest.mark.parametrize("line", [
    'open(path, "w").write("x")', 'path.open("wb")', 'open(path, mode="a")', 'path.write_text("x")', "(path / 'a').write_bytes(b)",
    "table.to_csv(path)", "table.to_csv(path_or_buf=path)", "sf.write(path, y, 8000)", "save_file(state, path)",
    "figure.savefig(path)", 'np.save(path / "x.npy", x)', "os.replace(a, b)", "path.mkdir()", "torch.save(x, path)",
    'np.lib.format.open_memmap(path, "w+")', "with writing(path) as draft: path.write_text('x')",
    "with locked(path) as draft: draft.write_text('x')", "with make(path) as file: np.savez(file, x=x)",
])  # fmt: skip
def test_the_gate_sees_a_raw_write(line):
    assert len(writes(f"def f(path):\n    {line}\n")) == 1


@pytest.mark.parametrize("line", [
    "open(path).read()", 'open(path, "rb")', 'path.open(newline="")', "write_text(path, 'x')", "table.to_csv(index=False)",
    "with writing(path) as draft: draft.write_text('x')", "with store.writing(path) as new: save_file(state, new)",
    "with writing(path) as draft, open(draft, 'wb') as file: np.savez(file, x=x)",
    "with building(path) as made: np.save(made / 'x.npy', x)", "file = io.BytesIO(); figure.savefig(file)",
    'open(os.devnull, "w")', "text.replace('a', 'b')",
])  # fmt: skip
def test_the_gate_lets_drafts_and_readers_pass(line):
    assert not writes(f"def f(path):\n    {line}\n")
    assert not writes("def f(draft, x):\n    np.save(draft / 'x.npy', x)\n")


# Control by wording ---------------------------------------------------------------------------------------------------
ASKING = {"startswith", "endswith", "removeprefix", "removesuffix", "find", "index", "split", "partition", "match", "search"}


def by_wording(source, module="sample"):
    "Every place where something is decided by what the text of an exception says."
    tree, found = ast.parse(source), []
    caught = {h.name for h in ast.walk(tree) if isinstance(h, ast.ExceptHandler) and h.name} | {"exc"}

    def words_of(node):  # str(exc), exc.args or exc.args[0]
        node = node.value if isinstance(node, ast.Subscript) else node
        said = isinstance(node, ast.Call) and name_of(node.func) == "str" and names_in(node) & caught
        return said or isinstance(node, ast.Attribute) and node.attr == "args" and names_in(node) & caught

    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(words_of(n) for part in [node.left, *node.comparators] for n in ast.walk(part)):
            found.append(f"{module}:{node.lineno}")
        if isinstance(node, ast.Attribute) and node.attr in ASKING and words_of(node.value):
            found.append(f"{module}:{node.lineno}")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_nothing_hangs_on_the_text_of_a_message(path):
    assert not by_wording(path.read_text(encoding="utf-8"), path.stem)


@pytest.mark.parametrize("line", ['if "0 bytes" in str(e): pass', 'x = str(e).removesuffix(": resume")', 'if str(e) == "no": pass',
                                  'if e.args[0].startswith("x"): pass'])  # fmt: skip
def test_the_gate_sees_control_by_wording(line):
    assert by_wording(f"try:\n    f()\nexcept ValueError as e:\n    {line}\n") == ["sample:4"]
    assert not by_wording("try:\n    f()\nexcept ValueError as e:\n    print(str(e))\n")
