"""A few of the inputs of `benchmarks/fuzz.py`, always the same."""

from __future__ import annotations

import pytest
from fuzzing import Said, Stage, assess, call
from marks import slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("fuzz"), seed=3)


@pytest.mark.filterwarnings("ignore:odd")  # what an environment may say
@pytest.mark.parametrize("inputs", [20, slow(60)])
@pytest.mark.parametrize("kind", ["flags", "TOML", "damage", "environment"])
def test_what_nobody_gives_on_purpose_is_answered_in_a_sentence(
    stage: Stage, kind: str, inputs: int
) -> None:
    """If wrong: a user's mistake ends in a traceback, or a resume differs in silence."""
    verdicts = [stage.judge(index, kind) for index in range(inputs)]
    assert [each for each in verdicts if each.is_finding] == []
    assert {"well", "refused"} <= {each.outcome for each in verdicts}


def give_up() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("work", "outcome"),
    [
        (lambda: 1 / 0, "traceback"),
        (lambda: {}["a"], "traceback"),
        (give_up, "traceback"),
        (lambda: 1, "wordless"),
        (lambda: 0, "well"),
    ],
)
def test_a_fault_is_seen(work: object, outcome: str) -> None:
    """If wrong: the inputs above are judged by somebody who is asleep."""
    assert assess(call(work))[0] == outcome  # type: ignore[arg-type]
    assert assess(Said(hung=True))[0] == "hang"
