"Package metadata, read from settings.ini: nbdev's file is the only place that states it."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license="Apache-2.0",
    keywords=cfg["keywords"],
    packages=find_packages(include=["musevae", "musevae.*"]),
    package_data={"musevae": ["py.typed", "static/*", "data/*"]},
    package_dir={"": "."},  # an editable install is then this folder on the path: `nbs._book` is importable too
    include_package_data=True,
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={key.removesuffix("_requirements"): cfg[key].split() for key in cfg if key.endswith("_requirements")},
    entry_points={
        "console_scripts": ["musevae = musevae.__main__:main"],
        "nbdev": ["musevae = musevae._modidx:d"],
    },
    zip_safe=False,
)
