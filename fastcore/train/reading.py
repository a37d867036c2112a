"""Configurations from YAML files, from the command line, and back."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from fastcore.train.config import ExperimentConfig, MethodConfig

Config = TypeVar("Config")


def recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("fastcore.train") / "recipes"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


def load(recipe: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The experiment of a YAML file, or of a recipe of the package, with ``name=value`` settings over it.

    A setting is written ``train.epochs=20`` or ``seeds=[0, 1]``: a path of fields and a YAML value. Raises
    OSError when the file cannot be read, ValueError and TypeError that name the field and the value.
    """
    text, source = _text(recipe)
    values = parse(text, source)
    for override in overrides:
        apply(values, override)
    return build(ExperimentConfig, values)


def dump(config: Any) -> str:
    """A configuration as YAML that ``load`` reads; fields in their order, none left out."""
    import yaml

    return str(yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True, width=100))


def plain(value: Any) -> Any:
    """A configuration as dicts, lists and numbers, as in YAML and JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, tuple | list) else value


def parse(text: str, source: str) -> dict[str, Any]:
    """The mapping in a YAML text. Raises ValueError, naming the source, for anything else and for a key twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes no key twice, of which YAML would drop the first value."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise ValueError(
                    f"{source} names {twice!r} twice, at line {node.start_mark.line + 1} and after"
                )
            values: dict[Any, Any] = super().construct_mapping(node, deep)
            return values

    try:
        values = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{source} must hold fields and values, got {type(values).__name__}")
    return values


def apply(values: dict[str, Any], override: str) -> None:
    """Sets one ``path=value`` in a mapping, in place. Raises ValueError for another form."""
    import yaml

    path, equals, text = override.partition("=")
    *parents, name = path.strip().split(".")
    if not equals or not name:
        raise ValueError(f"a setting must be written field=value, got {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ValueError(f"{parent} of {override!r} has no fields")
    values[name] = value


def build(kind: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """A configuration of a kind from a mapping of its fields; fields that are left out have their defaults.

    Raises TypeError for a field that there is not, with the closest name, for one that is missing, and for a
    value of another type.
    """
    given = _fields(kind, values, where)
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        needed = each.default is each.default_factory is dataclasses.MISSING
        if needed and each.name not in given:
            raise TypeError(f"{where or kind.__name__} needs a {each.name}")
    return kind(**given)


def _fields(kind: type, values: Any, where: str) -> dict[str, Any]:
    """Some of the fields of a configuration, each with the type it has."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{where or kind.__name__} must hold fields and values, got {values!r}")
    hints, fields = typing.get_type_hints(kind), {each.name: each for each in dataclasses.fields(kind)}
    given = {}
    for name, value in values.items():
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"its fields are {', '.join(fields)}"
            raise TypeError(f"{where or kind.__name__} has no field {name!r}: {hint}")
        path, part_of = f"{where}.{name}" if where else name, fields[name].metadata.get("part_of")
        given[name] = _as(hints[name], value, path) if part_of is None else _fields(part_of, value, path)
    return given


def _as(hint: Any, value: Any, where: str) -> Any:
    """A YAML value as the type of its field."""
    if hint is MethodConfig:
        return _as_method(value, where)
    if dataclasses.is_dataclass(hint):
        return (
            value
            if isinstance(value, typing.cast(type, hint))
            else build(typing.cast(type, hint), value, where)
        )
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return (
            None
            if value is None
            else _as(next(each for each in arguments if each is not type(None)), value, where)
        )
    if origin is tuple:
        listed = value if isinstance(value, list | tuple) else [value]
        return tuple(_as(arguments[0], each, where) for each in listed)
    if origin is not None:  # a mapping
        if not isinstance(value, Mapping):
            raise TypeError(f"{where} must hold fields and values, got {value!r}")
        return dict(value)
    if hint is float and isinstance(value, str):  # YAML reads 5e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise TypeError(f"{where} must be {_WORDS[hint]}, got {value!r}")
    return value


_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


def _as_method(value: Any, where: str) -> MethodConfig:
    """A method by its name, or as a mapping of its name, perhaps a label, and its options."""
    if isinstance(value, MethodConfig):
        return value
    if isinstance(value, str):
        return MethodConfig(value)
    if not isinstance(value, Mapping) or "name" not in value:
        raise TypeError(f"{where} must be names, or mappings with a name, got {value!r}")
    rest = {str(key): each for key, each in value.items() if key not in ("name", "label", "options", "runs")}
    options = _as(Mapping[str, Any], value.get("options") or {}, f"{where}.options")
    for name in rest:
        if name in options:
            raise ValueError(f"{where}: {value['name']} has {name} beside its options and among them")
    label = _as(str, value.get("label") or "", f"{where}.label")
    runs = _as(int | None, value.get("runs"), f"{where}.runs")
    return MethodConfig(_as(str, value["name"], f"{where}.name"), label, {**options, **rest}, runs)


def _text(recipe: str | Path) -> tuple[str, str]:
    """The text of a recipe and what to call it: a file, or else a name."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml") or path.is_file():  # a folder of results may have a recipe's name
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except OSError as error:
            raise OSError(error.errno, f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not YAML: it is not text in UTF-8") from error
    known = recipes()
    if str(recipe) not in known:
        close = difflib.get_close_matches(str(recipe), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise ValueError(f"recipe must be a YAML file or a name, got {str(recipe)!r}: {hint}")
    return (resources.files("fastcore.train") / "recipes" / f"{recipe}.yaml").read_text("utf-8"), str(recipe)
