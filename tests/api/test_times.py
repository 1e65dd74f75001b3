"""Times are written as the standard library writes them, only faster."""

from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from kubeloop.api.times import rfc3339, rfc3339_micro


@given(st.floats(0, 4e9) | st.integers(0, 4 * 10**12).map(lambda ms: ms / 1e3))
@example(1_795_413_600.999_999_9)
@example(0.000_000_5)
def test_seconds_and_microseconds(unix_s: float) -> None:
    moment = datetime.fromtimestamp(unix_s, UTC)
    assert rfc3339_micro(unix_s) == moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert rfc3339(unix_s) == datetime.fromtimestamp(int(unix_s), UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
