"""Every system by name. A new file is one more line in `FILES`; it ends in MODEL, or in MODELS, a tuple of them."""

from types import ModuleType

from raylift.errors import unknown_name
from raylift.models import bx2s, cvaa, e2e, ear, psr, raylift, sart, sit, threedsrnet, x2ct, xctnet, xrecon
from raylift.models.spec import Model, Recipe

FILES: tuple[ModuleType, ...] = (
    raylift,
    sart,
    x2ct,
    xctnet,
    threedsrnet,
    xrecon,
    cvaa,
    psr,
    sit,
    e2e,
    bx2s,
    ear,
)

__all__ = ["ALIASES", "FILES", "MODELS", "Model", "Recipe", "get"]


def _declared(file: ModuleType) -> tuple[Model, ...]:
    """What the file declares at its foot."""
    models = file.MODELS if hasattr(file, "MODELS") else (file.MODEL,)
    for model in models:
        if not isinstance(model, Model):
            raise TypeError(f"{file.__name__}: MODELS holds {model!r}, which is no Model")
    return tuple(models)


def _table(files: tuple[ModuleType, ...]) -> tuple[dict[str, Model], dict[str, str]]:
    """Models by name, and other names by model (a file's ALIASES); no name stands for two things."""
    models: dict[str, Model] = {}
    aliases: dict[str, str] = {}
    for file in files:
        for model in _declared(file):
            if model.name in models:
                raise ValueError(f"{file.__name__}: the name '{model.name}' is taken")
            models[model.name] = model
        aliases.update(getattr(file, "ALIASES", {}))
    for alias, name in aliases.items():
        if alias in models or name not in models:
            raise ValueError(f"the alias '{alias}' for '{name}' is taken or leads nowhere")
    return models, aliases


MODELS, ALIASES = _table(FILES)


def get(name: str) -> Model:
    """The model of that name, or an error that offers the nearest one."""
    name = ALIASES.get(name, name)
    if name not in MODELS:
        raise unknown_name("model", name, [*MODELS, *ALIASES])
    return MODELS[name]
