"""The house's plan: which module may import which, as a table; data flows down it, and nothing climbs.

A line is a module and what it may import besides `musevae` itself; `late` are imports inside functions, which save start-up
time or keep a heavy part out of a light module. Whoever wants an arrow that is not here adds it here first, in sight.
"""
import ast
from importlib import import_module
from pathlib import Path

import pytest

import musevae

PACKAGE = Path(musevae.__file__).parent
# module: (imports, late imports), from the ground up
PLAN = {
    "store": ("", ""),
    "looks": ("", ""),
    "mel.filterbank": ("", ""),
    "mel.compiled": ("mel.filterbank", ""),
    "mel": ("mel.compiled mel.filterbank", ""),
    "corpus.files": ("", ""),
    "corpus.audio": ("corpus.files", ""),
    "corpus.verdict": ("corpus.audio corpus.files", ""),
    "corpus.sources": ("corpus.files corpus.verdict", ""),
    "corpus.gtzan": ("corpus.files", ""),
    "corpus.split": ("corpus.files", ""),
    "corpus": ("corpus.audio corpus.files corpus.gtzan corpus.sources corpus.split corpus.verdict looks store", ""),
    "files": ("", ""),
    "synth.tables": ("", ""),
    "synth.styles": ("synth.tables", ""),
    "synth.score": ("synth.tables", ""),
    "synth.pianoroll": ("synth.score", ""),
    "synth.sound": ("synth.score", ""),
    "synth.players": ("synth.score synth.sound", ""),
    "synth.desk": ("synth.players synth.score synth.sound synth.tables", ""),
    "synth": ("corpus.verdict store synth.desk synth.sound synth.styles synth.tables", ""),
    "windows.cache": ("corpus.audio corpus.files mel mel.compiled store", ""),
    "windows": ("corpus.audio mel windows.cache", ""),
    "networks": ("", ""),
    "annealing": ("", ""),
    "vae.places": ("", ""),
    "vae.linear": ("vae.places", ""),
    "vae.networks": ("", ""),
    "vae.likelihood": ("vae.linear", ""),
    "vae.prior": ("vae.likelihood vae.linear", ""),
    "vae.coloured": ("vae.likelihood vae.linear", ""),
    "vae.slots": ("vae.linear vae.places", ""),
    "vae.joint": ("", ""),
    "vae.beat": ("", ""),
    "vae.autoregressive": ("vae.beat vae.slots", ""),
    "vae.prior_sequence": ("vae.autoregressive vae.beat vae.joint vae.likelihood vae.linear vae.prior vae.slots", ""),
    "vae.prior_training": ("vae.beat vae.prior vae.prior_sequence", ""),
    "vae.stream": ("vae.beat", ""),
    "vae.export": ("store", ""),
    "vae.parts": ("mel vae.linear", ""),
    "vae.globalcode": ("vae.coloured vae.linear vae.parts", ""),
    "vae.pretrained": ("store", ""),
    "vae": ("mel vae.coloured vae.export vae.globalcode vae.likelihood vae.linear vae.networks vae.parts vae.pretrained "
            "vae.prior vae.prior_sequence",
            ""),
    "elbo": ("vae.likelihood vae.prior", ""),
    "evaluation": ("vae vae.prior windows", ""),
    "collapse": ("evaluation vae windows", ""),
    "collapse.level": ("vae.linear", ""),
    "training": ("annealing elbo vae", ""),
    "presets": ("mel training vae", ""),
    "device": ("store training", ""),
    "fitting": ("device evaluation store training vae", ""),
    "prior_stage": ("fitting store training vae vae.pretrained vae.prior_sequence vae.prior_training", ""),
    "identity": ("store", ""),
    "runfolder": ("", ""),
    "runs": ("corpus device fitting identity mel presets prior_stage runfolder store training vae windows", ""),
    "collapse.sweep": ("annealing collapse collapse.level device evaluation fitting identity mel presets runs store "
                       "training vae vae.coloured windows",
                       ""),
    "demo": ("corpus mel presets runs store synth windows", ""),
    "geometry": ("", ""),
    "harmony": ("mel mel.filterbank", ""),
    "pulse": ("", ""),
    "features": ("geometry", ""),
    "probes": ("geometry", ""),
    "latent": ("features geometry looks probes pulse vae windows", ""),
    "coordinates": ("features geometry latent mel pulse vae vae.globalcode windows", ""),
    "vocoder.phase": ("", ""),
    "vocoder.voice": ("mel mel.filterbank store", ""),
    "vocoder.teaching": ("corpus identity mel mel.filterbank store vae vae.pretrained vocoder.phase vocoder.voice", ""),
    "vocoder": ("mel vocoder.phase", "vocoder.voice"),
    "vocoder.joins": ("mel vocoder", ""),
    "codes": ("mel store vae vae.pretrained", ""),
    "songs": ("codes corpus.audio evaluation mel store vae vae.pretrained vocoder vocoder.joins", ""),
    "widgets.media": ("", ""),
    "reconstruction": ("evaluation mel runs vae vae.likelihood windows", ""),
    "generation": ("latent vae", ""),
    "swap": ("vae vae.pretrained windows", ""),
    "texture": ("mel vae", ""),
    "report.figures": ("collapse evaluation geometry latent probes reconstruction runs store windows", ""),
    "report": ("collapse corpus evaluation geometry latent mel reconstruction report.figures runs store vocoder "
               "widgets.media windows",
               ""),
    "widgets.page": ("", ""),
    "widgets.live": ("widgets.media widgets.page", ""),
    "widgets.scatter": ("looks widgets.live widgets.media widgets.page", ""),
    "widgets.level": ("widgets.media widgets.page", ""),
    "widgets": ("widgets.level widgets.media widgets.page widgets.scatter", ""),
    "water": ("collapse.level evaluation runs store vae.linear vocoder widgets.level widgets.page windows", ""),
    "map": ("coordinates corpus.audio latent mel runs store vae.pretrained vocoder widgets.media widgets.page "
            "widgets.scatter windows",
            ""),
    "live": ("coordinates latent map runs vae vae.globalcode vae.networks vae.parts vae.pretrained vocoder widgets.live "
             "widgets.media windows",
             ""),
    "cli.screen": ("store", ""),
    "cli.registry": ("cli.screen", ""),
    "cli.arguments": ("cli.registry cli.screen mel runs windows", "corpus presets"),
    "cli.summary": ("runs windows", ""),
    "cli.voice": ("cli.arguments cli.registry cli.screen mel store vocoder", "corpus runs vocoder.teaching vocoder.voice"),
    "cli.songs": ("cli.arguments cli.registry cli.screen cli.voice runfolder store",
                  "codes corpus.audio corpus.files runs songs widgets.media"),
    "cli.making": ("cli.arguments cli.registry cli.screen cli.voice mel runfolder store vae vocoder",
                   "corpus generation runs songs swap vae.stream vocoder.joins widgets.media"),
    "cli": ("cli.arguments cli.making cli.registry cli.screen cli.songs cli.summary cli.voice runfolder store",
            "collapse collapse.sweep corpus device live map report runs synth windows"),
}

HEAVY = {"pandas", "matplotlib", "soundfile", "librosa", "sklearn", "IPython", "ipywidgets", "anywidget", "seaborn"}


def modules():
    "Name → file of every module that is exported from a notebook."
    files = {p for p in PACKAGE.rglob("*.py") if p.name not in ("_modidx.py", "__main__.py") and p.parent != PACKAGE or
             p.parent == PACKAGE and p.name not in ("_modidx.py", "__main__.py", "__init__.py")}
    return {".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): p for p in sorted(files)}


def imports_of(source, name, is_package=False):
    "What a module imports: two sets of top-level and late (inside functions), each of dotted names; ours begin with `musevae`."
    top, late = set(), set()

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                (late if inside else top).update(a.name for a in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = ["musevae", *name.split(".")]
                base = base[: len(base) - child.level + is_package] if child.level else []
                module = ".".join([*base, *(child.module or "").split(".")]).strip(".")
                for alias in child.names:
                    whole = f"{module}.{alias.name}"
                    (late if inside else top).add(whole if whole.removeprefix("musevae.") in known else module)
            walk(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    known = set(modules())
    walk(ast.parse(source), False)
    return top, late - top


def ours(names, name):
    return {n.removeprefix("musevae.") for n in names if n.startswith("musevae.")} - {name}


ARROWS = {name: imports_of(path.read_text(encoding="utf-8"), name, path.name == "__init__.py") for name, path in modules().items()}


@pytest.mark.parametrize("name", ARROWS)
def test_a_module_imports_what_the_plan_allows(name):
    assert name in PLAN, f"{name} is not in the plan: say what it may import"
    allowed, allowed_late = (set(words.split()) for words in PLAN[name])
    top, late = (ours(names, name) for names in ARROWS[name])
    assert top <= allowed, f"{name} imports {sorted(top - allowed)} against the plan"
    assert late <= allowed | allowed_late, f"{name} imports {sorted(late - allowed - allowed_late)} late, against the plan"


def test_the_plan_is_the_house():
    "No line for a room that is gone, no permission that nobody uses."
    assert set(PLAN) == set(ARROWS)
    for name, (allowed, allowed_late) in PLAN.items():
        top, late = (ours(names, name) for names in ARROWS[name])
        assert set(allowed.split()) <= top and set(allowed_late.split()) <= late, name


def test_no_arrow_climbs():
    "Read downwards, every module imports only from lines above its own; so there is no circle."
    order = list(PLAN)
    for name, (allowed, late) in PLAN.items():
        for other in (allowed + " " + late).split():
            assert order.index(other) < order.index(name), f"{name} imports {other}, which stands below it"


@pytest.mark.parametrize("name", ["mel", "mel.filterbank", "mel.compiled", "elbo", "annealing", "vae", "vae.linear",
                                  "vae.networks", "vae.likelihood", "vae.prior", "vae.parts", "vae.pretrained",
                                  "vae.export"])
def test_the_ground_floor_knows_no_player_figure_or_table(name):
    top, _ = ARROWS[name]
    assert not {n.split(".")[0] for n in top} & HEAVY


def test_an_arrow_against_the_plan_is_seen():
    top, late = imports_of("from .widgets import Player\ndef f():\n    from musevae.synth import render", "elbo")
    assert ours(top, "elbo") == {"widgets"} and ours(late, "elbo") == {"synth"}
    inside, _ = imports_of("from . import media\nfrom ..mel import MelSpec", "widgets", is_package=True)
    assert ours(inside, "widgets") >= {"mel"}


def test_every_module_can_be_imported_alone():
    for name in ARROWS:
        import_module(f"musevae.{name}")
