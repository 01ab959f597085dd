"""What a search may choose from: the spaces that tune.py knows, and those read from a TOML file."""
import dataclasses
import math
import pathlib
import tomllib

from study_tools import EXIT_CONFIG, EXIT_MISSING, ToolError

SCALES = ("linear", "log", "power of 2")

# Dense: depth, width, dropout, learning rate, batch, weight decay; onpa's Dense has no batch norm to switch on.
BUILT_IN = {
    "dense": """
[space]
"model.hidden" = {depth = {low = 1, high = 6}, width = {low = 32, high = 1024, scale = "power of 2"}}
"model.dropout" = {low = 0.0, high = 0.5}
"train.lr" = {low = 1e-5, high = 1e-2, scale = "log"}
"train.batch_size" = {low = 64, high = 4096, scale = "power of 2"}
"optim.weight_decay" = {low = 1e-6, high = 1e-1, scale = "log"}
""",
    "passt": """
[space]
"train.lr" = {low = 1e-6, high = 1e-3, scale = "log"}
"train.batch_size" = {low = 4, high = 32, scale = "power of 2"}
"optim.weight_decay" = {low = 1e-6, high = 1e-1, scale = "log"}
"data.mixup_alpha" = {low = 0.0, high = 0.5}
""",
}


@dataclasses.dataclass(frozen=True)
class Param:
    """One draw. A whole list such as model.hidden is two: how many numbers, and which."""
    key: str
    part: str = ""  # "depth" or "width" of a list
    low: float | int = 0
    high: float | int = 0
    scale: str = "linear"
    choices: tuple = ()

    @property
    def name(self) -> str:
        name = f"{self.key}.{self.part}" if self.part else self.key
        return f"log2({name})" if self.scale == "power of 2" else name

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def bounds(self) -> tuple:
        """Of what is drawn: the exponent, where the value is a power of 2."""
        if self.scale == "power of 2":
            return int(math.log2(self.low)), int(math.log2(self.high))
        return self.low, self.high

    def value(self, drawn):
        return 2 ** drawn if self.scale == "power of 2" else drawn


@dataclasses.dataclass(frozen=True)
class Space:
    params: tuple[Param, ...]
    fixed: tuple[tuple[str, object], ...] = ()
    text: str = ""

    def keys(self) -> list[str]:
        return list(dict.fromkeys(p.key for p in self.params))

    def without(self, keys) -> "Space":
        """What is set by hand is not searched."""
        kept = tuple(p for p in self.params if p.key not in keys)
        return Space(kept, tuple((k, v) for k, v in self.fixed if k not in keys), self.text)

    def settings(self, drawn: dict) -> dict:
        """onpa's settings, by key, of what was drawn, by Param.name."""
        out: dict = {}
        depth: dict = {}
        for param in self.params:
            value = param.value(drawn[param.name])
            if param.part == "depth":
                depth[param.key] = value
            out[param.key] = value
        for key, count in depth.items():
            out[key] = [out[key]] * count
        return out


def set_text(value) -> str:
    """As `--set key=TEXT` takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ",".join(str(v) for v in value) + "]"
    return repr(value) if isinstance(value, float) else str(value)


def toml_value(value) -> str:
    if isinstance(value, str):
        out = ""
        for c in value:
            plain = c not in '"\\' and ord(c) >= 0x20 and ord(c) != 0x7F
            out += c if plain else "\\" + c if c in '"\\' else f"\\u{ord(c):04x}"
        return f'"{out}"'
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return set_text(value)


def to_toml(settings: dict) -> str:
    """Settings by "section.key" as a TOML file."""
    sections: dict[str, dict] = {}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    return "\n".join(f"[{section}]\n" + "".join(f"{k} = {toml_value(v)}\n" for k, v in sections[section].items())
                     for section in sections)


def flat(table: dict) -> dict:
    """A settings file's tables as "section.key"."""
    return {f"{section}.{key}": value for section, keys in table.items() if isinstance(keys, dict)
            for key, value in keys.items()}


def read_toml(path: pathlib.Path, what: str) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ToolError(EXIT_CONFIG, f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise ToolError(EXIT_MISSING, f"{path}: no such {what}") from error
    except OSError as error:
        raise ToolError(EXIT_CONFIG, f"{path}: cannot be read as a {what}: {error.strerror}") from error


def _wrong(origin: str, key: str, why: str) -> ToolError:
    return ToolError(EXIT_CONFIG, f"{origin}: {key}: {why}")


def _param(origin: str, key: str, table, part: str = "") -> Param:
    label = f"{key}.{part}" if part else key
    if not isinstance(table, dict):
        raise _wrong(origin, label, 'want {low, high, scale} or {choices}')
    unknown = set(table) - {"low", "high", "scale", "choices"}
    if unknown:
        raise _wrong(origin, label, f"no key '{min(unknown)}'; there are low, high, scale and choices")
    if "choices" in table:
        choices = table["choices"]
        if len(table) > 1 or not isinstance(choices, list) or not choices:
            raise _wrong(origin, label, "choices: want a list of values, and no other key")
        if any(not isinstance(c, bool | int | float | str) for c in choices):
            raise _wrong(origin, label, "choices: want numbers, texts, true or false")
        return Param(key, part, choices=tuple(choices))
    low, high, scale = table.get("low"), table.get("high"), table.get("scale", "linear")
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _wrong(origin, label, f"{name}: want a number")
    if low > high:
        raise _wrong(origin, label, f"low {low} is above high {high}")
    if scale not in SCALES:
        raise _wrong(origin, label, f"scale \"{scale}\": want {', '.join(SCALES)}")
    if scale == "log" and low <= 0:
        raise _wrong(origin, label, f"low {low}: a log scale wants more than 0")
    whole = isinstance(low, int) and isinstance(high, int)
    if scale == "power of 2" and not (whole and low > 0 and low & (low - 1) == 0 and high & (high - 1) == 0):
        raise _wrong(origin, label, "want low and high to be powers of 2")
    if part and not whole:
        raise _wrong(origin, label, "want whole numbers")
    if not whole:
        low, high = float(low), float(high)
    return Param(key, part, low, high, scale)


def parse_space(text: str, origin: str) -> Space:
    """Throws ToolError naming what is wrong where."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ToolError(EXIT_CONFIG, f"{origin}: {error}") from error
    unknown = set(table) - {"space", "fixed"}
    if unknown:
        raise ToolError(EXIT_CONFIG, f"{origin}: no table [{min(unknown)}]; there are [space] and [fixed]")
    space, fixed = table.get("space", {}), table.get("fixed", {})
    if not isinstance(space, dict) or not space:
        raise ToolError(EXIT_CONFIG, f"{origin}: [space] names no setting to search")
    params = []
    for key, value in space.items():
        if key.count(".") != 1:
            raise _wrong(origin, key, 'want a quoted "section.key"')
        if isinstance(value, dict) and set(value) == {"depth", "width"}:
            params += [_param(origin, key, value["depth"], "depth"), _param(origin, key, value["width"], "width")]
            if params[-2].choices or params[-2].low < 1:
                raise _wrong(origin, f"{key}.depth", "want low of at least 1")
        else:
            params.append(_param(origin, key, value))
    for key, value in fixed.items():
        if key.count(".") != 1 or isinstance(value, dict):
            raise _wrong(origin, key, 'want a quoted "section.key" and its value')
        if key in space:
            raise _wrong(origin, key, "is in [space] and in [fixed]")
    for key in (*space, *fixed):
        if key == "data.validation":
            raise _wrong(origin, key, "is what trials are compared on; see --validation")
    return Space(tuple(params), tuple(fixed.items()), text)


def load_space(path: pathlib.Path | None, model: str) -> Space:
    if path is None:
        return parse_space(BUILT_IN[model], f"built-in space of {model}")
    read_toml(path, "space file")  # for its errors about the file itself
    return parse_space(path.read_text(encoding="utf-8"), str(path))
