"""`tledge bench`: how fast a bundle's variants are on this machine, or against another bundle."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tledge import artifacts
from tledge.artifacts import BenchResult, OnMachine
from tledge.cli import devices, options, screen, side_by_side
from tledge.cli.predict import ProviderOption
from tledge.errors import InputError

if TYPE_CHECKING:
    from tledge.bench.targets import Target
    from tledge.report.sections import Section

_LONG_FACTS = ("packages", "onnxruntime build")
SINGLE, OFFLINE, SERVER = "single-stream", "offline", "server"

StrictOption = Annotated[
    bool, typer.Option("--strict-provider", help="Make work on rows that the provider leaves to the CPU an error.")
]
IsolateOption = Annotated[
    bool, typer.Option("--isolate", help="Compare in a process of each side's own, on the same cores.")
]


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle, a run folder, or an ONNX file.")],
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="OLD",
            help="Compare with a bundle, run folder or ONNX file, or with another variant of this bundle, by name.",
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant", help="A variant to time; all by default, and with --against the chosen one. Repeatable."
        ),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario",
            help="single-stream: one run after the other. offline: rows a second over batch sizes. server: requests "
            "that arrive at random, with --rate and --bound-ms.",
        ),
    ] = SINGLE,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            help="Rows of one run, such as 1,8; 1 by default, offline 1,2,4,8,16. A graph of a fixed batch or length "
            "is run at that, and a note says so.",
        ),
    ] = None,
    length: Annotated[
        str | None,
        typer.Option(
            "--length",
            help="Tokens of a text, such as 32,128; 32 by default. Images have none. For a language model those of the "
            "prompt, 16,128 by default; offline, server and --against time one token after so many.",
        ),
    ] = None,
    new_tokens: Annotated[
        int | None,
        typer.Option("--new-tokens", min=2, help="Tokens that a language model writes after a prompt; 32 by default."),
    ] = None,
    threads: Annotated[str, typer.Option("--threads", help="Threads of one run, such as 1,2.")] = "1",
    percentile: Annotated[
        str | None,
        typer.Option("--for", metavar="pXX", help="Take enough samples for this percentile: p90, for server p99."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration", min=0.1, help="Time limit in seconds: of a setting 120, of a comparison 8 by default."
        ),
    ] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Requests a second, for the scenario server.")] = None,
    bound_ms: Annotated[
        float | None, typer.Option("--bound-ms", help="The latency that the percentile shall keep, for server.")
    ] = None,
    within: Annotated[
        float,
        typer.Option("--within", min=0.001, max=1, help="The difference that matters with --against."),
    ] = 0.02,
    isolate: IsolateOption = False,
    provider: ProviderOption = "cpu",
    strict: StrictOption = False,
    dim: Annotated[
        list[str] | None,
        typer.Option("--dim", metavar="NAME=N", help="The size of a named dimension of an ONNX file; repeatable."),
    ] = None,
    no_torch: Annotated[
        bool, typer.Option("--no-torch", help="Leave torch eager out, the reference in a run folder.")
    ] = False,
    operators: Annotated[
        bool, typer.Option("--operators", help="Show the slowest operator types; JSON and Markdown always have them.")
    ] = False,
    history: Annotated[
        Path | None, typer.Option("--history", help="Add the result to this file of JSON lines.")
    ] = None,
    device: devices.DeviceOption = None,
    device_python: devices.PythonOption = None,
    device_timeout: devices.TimeoutOption = devices.TIMEOUT_S,
    ssh_option: devices.SshOption = None,
    as_json: screen.JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
) -> None:
    """Time the variants of a bundle, interleaved in one run, with torch eager as the reference where it is at hand.

    Torch eager needs the run's checkpoint beside the bundle and the train extra. A percentile is printed only when
    there are enough samples for it. A language model goes on with prompts: the time to the first token, of each
    further one, and tokens a second. With --against two graphs are compared in paired, interleaved rounds, after this
    host's own noise has been measured.
    """
    asked = _Asked(
        path=bundle,
        variants=tuple(variant or ()),
        batches=None if batch is None else options.numbers("--batch", batch),
        lengths=None if length is None else options.numbers("--length", length),
        new_tokens=new_tokens,
        threads=options.numbers("--threads", threads),
        percentile=None if percentile is None else options.percentile(percentile),
        duration_s=duration,
        provider=provider,
        strict=strict,
        dims=options.dims(dim or ()),
    )
    _check(scenario, against, rate, bound_ms)
    _check_new_tokens(asked, scenario, against)
    ways = devices.ways(device, device_python, device_timeout, ssh_option)

    def here(asked: _Asked, against: str | None, *, no_torch: bool) -> BenchResult:
        if against is not None:
            return _compared(asked, against, within=within, isolate=isolate)
        if scenario == SINGLE:
            return asked.single_stream(no_torch=no_torch)
        if scenario == OFFLINE:
            return asked.offline()
        assert rate is not None
        assert bound_ms is not None
        return asked.server(rate, bound_ms)

    def there(way: devices.Way) -> BenchResult:
        given = _arguments(
            against=against, variant=variant, scenario=scenario, batch=batch, length=length, threads=threads,
            new_tokens=new_tokens, for_=percentile, duration=duration, rate=rate, bound_ms=bound_ms, within=within,
            isolate=isolate, provider=provider, strict_provider=strict, dim=dim,
        )  # fmt: skip
        return _on_device(way, bundle, given)

    def keep(result: BenchResult) -> None:
        if history is not None:
            from tledge.gate.history import append

            append(history, result)

    if len(ways) < 2:
        local = not ways or ways[0].is_local
        result = here(asked, against, no_torch=no_torch) if local else there(ways[0])
        keep(result)
        _show(result, as_json=as_json, markdown=markdown, operators=operators)
        return

    # What is sent is what is run here, and torch eager, which no device has, is no reference: the rows are the same.
    same, old = dataclasses.replace(asked, path=_taken(bundle)), _old(against)

    def on(way: devices.Way) -> OnMachine:
        return OnMachine(
            way.url, here(same, None if old is None else str(old), no_torch=True) if way.is_local else there(way)
        )

    found = devices.on_each(ways, on)
    side_by_side.benches(found, as_json=as_json, markdown=markdown)
    for each in found:
        if each.bench is not None:
            keep(each.bench)
    raise typer.Exit(devices.exit_code(found))


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What the command line asks for; `None` is the default of what is then run."""

    path: Path
    variants: tuple[str, ...]
    batches: list[int] | None
    lengths: list[int] | None
    new_tokens: int | None
    threads: list[int]
    percentile: float | None
    duration_s: float | None
    provider: str
    strict: bool
    dims: dict[str, int]

    def _common(self) -> dict[str, object]:
        common = {
            "variants": self.variants,
            "threads": self.threads,
            "provider": self.provider,
            "strict": self.strict,
            "dims": self.dims,
            "progress": screen.bars(),
        }
        return common | ({} if self.duration_s is None else {"duration_s": self.duration_s})

    def single_stream(self, *, no_torch: bool) -> BenchResult:
        from tledge.bench.bundled import generates, run_bundle

        if generates(self.path):
            return self._language(no_torch=no_torch)
        return run_bundle(
            self.path,
            batches=self.batches,
            lengths=self.lengths,
            percentile=self.percentile or 90,
            extra={} if no_torch else _torch_eager(self.path),
            **self._common(),  # type: ignore[arg-type]
        )

    def _language(self, *, no_torch: bool) -> BenchResult:
        from tledge.bench.bundled import run_language
        from tledge.bench.generation import NEW_TOKENS

        common = self._common()
        if common.pop("dims"):
            raise InputError(f"--dim: {self.path} is a bundle, which knows its inputs; leave --dim out")
        return run_language(
            self.path,
            batches=self.batches or [1],
            lengths=self.lengths,
            new_tokens=self.new_tokens or NEW_TOKENS,
            percentile=self.percentile or 90,
            extra={} if no_torch else _torch_eager(self.path),
            **common,  # type: ignore[arg-type]
        )

    def offline(self) -> BenchResult:
        from tledge.bench.bundled import run_offline

        return run_offline(self.path, batches=self.batches, lengths=self.lengths, **self._common())  # type: ignore[arg-type]

    def server(self, rate: float, bound_ms: float) -> BenchResult:
        from tledge.bench import Load
        from tledge.bench.bundled import run_server

        return run_server(
            self.path,
            Load(rate, bound_ms),
            batch=options.one("--batch", self.batches),
            length=options.one("--length", self.lengths),
            percentile=self.percentile or 99,
            **self._common(),  # type: ignore[arg-type]
        )


def _compared(asked: _Asked, against: str, *, within: float, isolate: bool) -> BenchResult:
    from tledge.bench import compare, compared
    from tledge.bench.targets import shared

    new, old = _pair(asked, against)
    batches: Sequence[int | None] = asked.batches or [None]
    lengths: Sequence[int | None] = asked.lengths or [None]
    settings = [
        compare.Setting(*shared(new, old, batch, length), threads, asked.provider, asked.strict)
        for threads, batch, length in itertools.product(asked.threads, batches, lengths)
    ]
    return compared(
        new,
        old,
        settings,
        within=within,
        duration_s=asked.duration_s or compare.DURATION_S,
        isolate=isolate,
        progress=screen.bars(),
    )


def _pair(asked: _Asked, against: str) -> tuple[Target, Target]:
    """The two graphs; `against` is a path, or where there is none of that name, a variant of the same bundle."""
    from tledge.bench import targets

    if len(asked.variants) > 1:
        raise InputError(f"--variant: one is compared with --against, got {', '.join(asked.variants)}")
    new = targets.resolve(asked.path, asked.variants[0] if asked.variants else None, dims=asked.dims)
    path = Path(against)
    if path.exists() or path.suffix == ".onnx" or new.manifest is None or len(path.parts) > 1:
        old = targets.resolve(path, dims=asked.dims if path.suffix == ".onnx" else None)
        names = (targets.title(new, asked.path), targets.title(old, path))
        return dataclasses.replace(new, name=names[0]), dataclasses.replace(old, name=names[1])
    return new, targets.resolve(asked.path, against)


def _check(scenario: str, against: str | None, rate: float | None, bound_ms: float | None) -> None:
    known = (SINGLE, OFFLINE, SERVER)
    if scenario not in known:
        raise InputError(f"--scenario: expected one of {', '.join(known)}, got {scenario!r}")
    if against is not None and scenario != SINGLE:
        raise InputError(f"--against compares single runs; leave --scenario {scenario} out")
    if scenario == SERVER and (rate is None or bound_ms is None):
        missing = "--rate" if rate is None else "--bound-ms"
        raise InputError(f"--scenario server needs {missing}: requests a second, and the latency to keep in ms")
    if scenario != SERVER and (rate is not None or bound_ms is not None):
        raise InputError("--rate and --bound-ms belong to --scenario server")


def _check_new_tokens(asked: _Asked, scenario: str, against: str | None) -> None:
    if asked.new_tokens is None:
        return
    from tledge.bench.bundled import generates

    if against is not None or scenario != SINGLE:
        what = "--against" if against is not None else f"--scenario {scenario}"
        raise InputError(f"--new-tokens: {what} times one token of a language model at a time; leave it out")
    if not generates(asked.path):
        raise InputError(
            f"--new-tokens: {asked.path} is not a language model's bundle and writes no text; leave it out"
        )


def _on_device(way: devices.Way, bundle: Path, arguments: Sequence[str | Path]) -> BenchResult:
    from tledge import device

    found = device.bench(
        way.url,
        _taken(bundle),
        arguments,
        python=way.python,
        timeout_s=way.timeout_s,
        options=way.ssh_options,
        progress=screen.bars(),
        say=screen.say,
    )
    return artifacts.from_dict(BenchResult, found)


def _taken(path: Path) -> Path:
    from tledge.bundle import find

    return path if path.suffix == ".onnx" else find(path)


def _arguments(*, against: str | None, **given: object) -> list[str | Path]:
    """The options for a bench elsewhere; a path among them is taken along."""
    found: list[str | Path] = []
    for name, value in given.items():
        flag = f"--{name.rstrip('_').replace('_', '-')}"
        if isinstance(value, bool):
            found += [flag] if value else []
        elif isinstance(value, list):
            found += [part for each in value for part in (flag, str(each))]
        elif value is not None:
            found += [flag, str(value)]
    old = _old(against)
    return found if old is None else [*found, "--against", old]


def _old(against: str | None) -> Path | str | None:
    """What `--against` names: the path that is taken along, or a variant's name."""
    return _taken(Path(against)) if against is not None and Path(against).exists() else against


def _show(result: BenchResult, *, as_json: bool, markdown: bool, operators: bool) -> None:
    from tledge.bench.table import lines, rows
    from tledge.report import bench_markdown, machine_facts
    from tledge.report.sections import sections

    if as_json:
        screen.as_json(artifacts.to_dict(result))
        return
    if markdown:
        typer.echo(bench_markdown(result))
        return
    if result.latencies:
        screen.table(*rows(result))
    shown = [section for section in sections(result) if operators or not section.long]
    for section in shown:
        if section.leads:
            _show_section(section)
    for line in lines(result):
        typer.echo(line)
    for section in shown:
        if not section.leads:
            typer.echo("")
            _show_section(section)
    facts = "; ".join(f"{name}: {value}" for name, value in machine_facts(result.machine) if name not in _LONG_FACTS)
    for line in (f"on {facts}", *(f"note: {note}" for note in result.notes)):
        typer.echo(line)


def _show_section(section: Section) -> None:
    typer.echo(section.title)
    screen.table(section.header, section.rows, section.words)
    for note in section.notes:
        typer.echo(note)


def _torch_eager(path: Path) -> Mapping[str, Callable[[int], Any]]:
    """Torch eager as a candidate, the teacher's before it, where a bundle lies in its run and torch is installed."""
    if path.suffix == ".onnx":
        return {}
    from tledge import bundle

    folder = bundle.find(path)
    if not (folder.parent / "train" / "checkpoint").exists():
        return {}
    if importlib.util.find_spec("torch") is None:
        screen.say("torch is not installed, so torch eager is left out")
        return {}
    from tledge import tasks
    from tledge.stages import runs

    return runs.load(tasks.load(bundle.load(folder).task).RUN).references(folder.parent, folder)
