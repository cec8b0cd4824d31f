from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import Timer
from soniox_proto.timers import TimerTable

DEADLINES = st.dictionaries(st.sampled_from(Timer), st.floats(-1e6, 1e6))


def armed(deadlines: dict[Timer, float]) -> TimerTable:
    table = TimerTable()
    for timer, deadline in deadlines.items():
        table.start(timer, 0.0, deadline)
    return table


class TestArming:
    def test_nothing_is_armed_at_first(self) -> None:
        assert TimerTable().next_timeout() is None

    @given(DEADLINES)
    def test_the_earliest_deadline_is_next(self, deadlines: dict[Timer, float]) -> None:
        assert armed(deadlines).next_timeout() == min(deadlines.values(), default=None)

    def test_starting_anew_moves_the_deadline(self) -> None:
        table = armed({Timer.CLOSE: 5.0})
        table.start(Timer.CLOSE, 10.0, 2.0)
        assert table.next_timeout() == 12.0

    def test_a_delay_of_none_arms_nothing(self) -> None:
        table = TimerTable()
        table.start(Timer.CLOSE, 1.0, None)
        assert table.next_timeout() is None

    def test_stopping_disarms_whether_armed_or_not(self) -> None:
        table = armed({Timer.PING: 1.0, Timer.CLOSE: 2.0, Timer.IDLE: 3.0})
        table.stop(Timer.PING)
        table.stop(Timer.PING)
        assert table.next_timeout() == 2.0
        table.stop_all()
        assert table.next_timeout() is None


class TestExpiry:
    @given(DEADLINES, st.floats(-1e6, 1e6))
    def test_what_is_due_is_yielded_once_in_the_order_of_the_table(
        self, deadlines: dict[Timer, float], now: float
    ) -> None:
        table = armed(deadlines)
        due = sorted(timer for timer, deadline in deadlines.items() if deadline <= now)
        assert list(table.expire(now)) == due
        assert list(table.expire(now)) == []
        left = table.next_timeout()
        assert left is None or left > now

    def test_what_ends_a_session_comes_before_what_would_still_send(self) -> None:
        assert max(Timer.CONNECT, Timer.CLOSE, Timer.PONG, Timer.FINALIZE) < Timer.PING
        assert Timer.PING < Timer.KEEPALIVE

    def test_a_handler_may_stop_what_is_still_to_come(self) -> None:
        table = armed({Timer.CLOSE: 1.0, Timer.KEEPALIVE: 1.0})
        handled = []
        for timer in table.expire(1.0):
            handled.append(timer)
            table.stop_all()
        assert handled == [Timer.CLOSE]

    def test_a_handler_may_arm_its_own_timer_again(self) -> None:
        table = armed({Timer.KEEPALIVE: 1.0})
        for timer in table.expire(60.0):
            table.start(timer, 60.0, 5.0)
        assert table.next_timeout() == 65.0


STEPS = st.one_of(
    st.tuples(
        st.just("start"),
        st.sampled_from(Timer),
        st.floats(-100, 100),
        st.none() | st.floats(0, 50),
    ),
    st.tuples(st.just("stop"), st.sampled_from(Timer)),
    st.tuples(st.just("stop_all")),
    st.tuples(st.just("expire"), st.floats(-100, 150)),
    # Some timers expire, and the handler does not come to the rest.
    st.tuples(st.just("expire one"), st.floats(-100, 150)),
    st.tuples(st.just("look")),
)


@given(st.lists(STEPS, max_size=30))
def test_the_earliest_deadline_is_known_after_whatever_was_done(steps: list[Any]) -> None:
    table = TimerTable()
    deadlines: dict[Timer, float] = {}
    for step in steps:
        match step:
            case "start", timer, now, delay:
                table.start(timer, now, delay)
                if delay is not None:
                    deadlines[timer] = now + delay
            case "stop", timer:
                table.stop(timer)
                deadlines.pop(timer, None)
            case ("stop_all",):
                table.stop_all()
                deadlines.clear()
            case "expire", now:
                due = sorted(timer for timer in deadlines if deadlines[timer] <= now)
                for timer in table.expire(now):
                    assert timer == due.pop(0)
                    del deadlines[timer]
                    assert table.next_timeout() == min(deadlines.values(), default=None)
                assert due == []
            case "expire one", now:
                first = min((timer for timer in deadlines if deadlines[timer] <= now), default=None)
                assert next(table.expire(now), None) == first
                if first is not None:
                    del deadlines[first]
            case _:
                assert table.next_timeout() == min(deadlines.values(), default=None)
    for _ in range(2):
        assert table.next_timeout() == min(deadlines.values(), default=None)
