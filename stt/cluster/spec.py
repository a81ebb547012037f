"""What is to be deployed: one engine, as `stt cluster up` and the `args` of a Serve configuration file say it; pure."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from stt.cluster.load import LATE_S
from stt.engines.languages import language_code
from stt.errors import SettingsError
from stt.settings import EngineSettings

PREFIX: Final = "stt-"
"""Of the names of Serve applications that are engines: fronts find all of them."""
FRONTS: Final = "fronts"
"""What `stt cluster` calls the fronts that run inside Ray; no engine can be called so."""
FRONTS_APPLICATION: Final = "stt"
"""Of them all; not one that begins as those of engines do."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_AIM: Final = 0.7
"""What autoscaling aims at, of what may be in use (`Load.taken`): a replica takes minutes to come (a node, weights),
and fronts let nobody in above 1; between the two is room for four new sessions to every ten there are."""
_FILL: Final = 0.9
"""Batches that are so full leave no rows for anyone, whatever the share in use says: interims have begun to stretch."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine and its replicas."""

    name: str = "default"
    """What sessions call it (`RecognitionOptions.engine`), and part of its application's name."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes: sessions in these get it before other engines, and no others do that do not ask for it by name,
    as long as another engine knows theirs. None: it is for all that it knows."""
    replicas: int | None = None
    """So many; `None`: from `least` to `most`, as there is work."""
    least: int = 1
    most: int = 1
    gpus: float = 0.0
    """For each replica; below 1, replicas share a GPU."""
    cpus: float = 1.0
    timeout_s: float = 60.0
    """An engine that works on one batch for longer is taken for hung and replaced."""
    opens: str | None = None
    """`module:function` that opens the engine instead, for programs that bring their own."""

    def __post_init__(self) -> None:
        codes = tuple(language_code(code) or code for code in self.languages)
        object.__setattr__(self, "languages", codes)  # a list in a configuration file

        def check(holds: bool, expected: str, got: object) -> None:
            if not holds:
                msg = f"expected {expected}, got {got}"
                raise SettingsError(msg)

        check(_NAME.fullmatch(self.name) is not None, "a name of a-z, 0-9 and -, at most 40 long", repr(self.name))
        check(self.name != FRONTS, "a name other than that of the fronts", repr(self.name))
        check(self.replicas is None or self.replicas >= 1, "1 replica or more", self.replicas)
        check(1 <= self.least <= self.most, "1 <= min <= max", f"{self.least} and {self.most}")
        check(
            self.gpus >= 0 and (self.gpus <= 1 or self.gpus == int(self.gpus)),
            "a part of a GPU, or whole ones",
            self.gpus,
        )
        check(all(re.fullmatch(r"[a-z]{2,3}", code) for code in codes), "languages by codes like de", ", ".join(codes))
        check(self.cpus >= 0, "0 CPUs or more", self.cpus)
        check(self.timeout_s > 0, "timeout_s above 0", self.timeout_s)

    @property
    def application(self) -> str:
        return PREFIX + self.name

    @property
    def fixed(self) -> int | None:
        """How many replicas, where that does not change."""
        return self.replicas or (self.least if self.least == self.most else None)


def read_spec(args: Mapping[str, Any]) -> EngineSpec:
    """Return the spec that the `args` of a Serve configuration file stand for.

    Raises:
        SettingsError: there is an argument that a spec does not have, or a value that cannot work.

    """
    given = dict(args)
    given["engine"] = read_fields(EngineSettings, "engine", given.get("engine") or {})
    return read_fields(EngineSpec, "args", given)


def read_fields(kind: Any, what: str, given: Mapping[str, Any]) -> Any:
    """Return a dataclass made of a mapping in a configuration file, which `what` names.

    Raises:
        SettingsError: there is a field that it does not have, or a value of another kind than its default.

    """
    known = {f.name: f for f in fields(kind)}
    for name, value in given.items():
        if name not in known:
            msg = f"{what}: expected some of {', '.join(known)}, got {name!r}"
            raise SettingsError(msg)
        default = known[name].default
        if default == () and not (isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)):
            msg = f"{what}: {name}: expected a list of strings, got {value!r}"
            raise SettingsError(msg)
        if isinstance(default, int | float) and not isinstance(value, int | float):
            msg = f"{what}: {name}: expected a number, got {value!r}"
            raise SettingsError(msg)
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def replicas_wanted(now: int, taken: Sequence[float], lags_s: Sequence[float], fill: Sequence[float]) -> int:
    """Say how many replicas there should be, by what each of those there are says of itself."""
    if not taken:
        return now
    mean = sum(taken) / len(taken)
    wanted = math.ceil(now * mean / _AIM) or 1
    if max(lags_s, default=0.0) > LATE_S or mean > 1:
        return max(wanted, now + 1)
    if sum(fill) / max(1, len(fill)) > _FILL and mean > _AIM / 2:
        return max(wanted, now)
    return wanted
