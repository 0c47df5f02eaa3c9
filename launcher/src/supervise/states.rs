//! The states of a container under supervision, and the one table of what happens in each.
//!
//! Pure: says what to do, and does nothing.

use State::{Restarting, Running, Starting, Stopping, Waiting};

/// The state of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Its init prepares it: the command does not run yet.
    #[default]
    Starting,
    /// Its command runs.
    Running,
    /// It is unhealthy, was killed for that, and will be restarted whatever the policy says.
    Restarting,
    /// It was asked to end, and will not be restarted. Its command may not have begun, and may keep running for long.
    Stopping,
    /// It has ended, and waits for its restart.
    Waiting,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The init's exec has succeeded, or the init has ended without a message.
    Begun,
    /// Since then nothing has happened for a moment; once a run.
    Quiet,
    /// A signal for the command.
    Signal,
    /// One that asks it to end; or `kontena stop`, while there is no process that could get one.
    Stop,
    /// It must end at once: its owner is gone, or it can never become ready.
    Kill,
    /// Its health command has failed too often, and `--health-on-failure` says kill.
    Unhealthy,
    /// The same, and it says restart.
    UnhealthyRestart,
    /// The process has ended.
    Exit,
    /// The wait is over.
    Due,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Ignore,
    /// Tell the caller that the command runs.
    Announce,
    /// The same, if that was not possible at once; and there is time for other work.
    Settle,
    /// Send the signal to the process.
    Forward,
    /// Send SIGKILL to it.
    Kill,
    /// Read the rest of its output, and its exit status.
    Collect,
    /// Start it again.
    Restart,
    /// It stays as it is: there will be no other start.
    GiveUp,
}

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub action: Action,
    pub state: State,
}

const fn to(action: Action, state: State) -> Transition {
    Transition { action, state }
}

impl State {
    /// What to do about an input, and the next state.
    pub fn on(self, input: Input) -> Transition {
        TABLE[input as usize][self as usize]
    }
}

use Action::{Announce, Collect, Forward, GiveUp, Ignore, Kill, Restart, Settle};

/// A row for each [`Input`], a column for each [`State`], in their order: Starting, Running, Restarting, Stopping,
/// Waiting.
#[rustfmt::skip]
const TABLE: [[Transition; 5]; 9] = [
    /* Begun */
    [to(Announce, Running), to(Ignore, Running), to(Ignore, Restarting), to(Announce, Stopping), to(Ignore, Waiting)],
    /* Quiet */
    [to(Ignore, Starting), to(Settle, Running), to(Settle, Restarting), to(Settle, Stopping), to(Ignore, Waiting)],
    /* Signal */
    [to(Forward, Starting), to(Forward, Running), to(Forward, Restarting), to(Forward, Stopping), to(Ignore, Waiting)],
    /* Stop */
    [to(Forward, Stopping), to(Forward, Stopping), to(Forward, Stopping), to(Forward, Stopping), to(GiveUp, Stopping)],
    /* Kill */
    [to(Kill, Stopping), to(Kill, Stopping), to(Kill, Stopping), to(Kill, Stopping), to(GiveUp, Stopping)],
    /* Unhealthy */
    [to(Ignore, Starting), to(Kill, Running), to(Kill, Restarting), to(Kill, Stopping), to(Ignore, Waiting)],
    /* UnhealthyRestart */
    [to(Ignore, Starting), to(Kill, Restarting), to(Kill, Restarting), to(Kill, Stopping), to(Ignore, Waiting)],
    /* Exit */
    [to(Collect, Starting), to(Collect, Running), to(Collect, Restarting), to(Collect, Stopping), to(Ignore, Waiting)],
    /* Due */
    [to(Ignore, Starting), to(Ignore, Running), to(Ignore, Restarting), to(Ignore, Stopping), to(Restart, Starting)],
];

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] = [Starting, Running, Restarting, Stopping, Waiting];
    const INPUTS: [Input; 9] = [
        Input::Begun,
        Input::Quiet,
        Input::Signal,
        Input::Stop,
        Input::Kill,
        Input::Unhealthy,
        Input::UnhealthyRestart,
        Input::Exit,
        Input::Due,
    ];

    /// All pairs, by what must be true of each: written anew, and not copied from the table.
    #[test]
    fn whole_table() {
        for state in STATES {
            for input in INPUTS {
                let has_process = state != Waiting;
                let may_run = has_process && state != Starting;
                let wanted = match (state, input) {
                    (Starting, Input::Begun) => to(Announce, Running),
                    (Stopping, Input::Begun) => to(Announce, Stopping),
                    (_, Input::Quiet) if may_run => to(Settle, state),
                    (_, Input::Signal) if has_process => to(Forward, state),
                    (_, Input::Stop) => to(if has_process { Forward } else { GiveUp }, Stopping),
                    (_, Input::Kill) => to(if has_process { Kill } else { GiveUp }, Stopping),
                    (_, Input::Unhealthy) if may_run => to(Kill, state),
                    (Running, Input::UnhealthyRestart) => to(Kill, Restarting),
                    (_, Input::UnhealthyRestart) if may_run => to(Kill, state),
                    (_, Input::Exit) if has_process => to(Collect, state),
                    (Waiting, Input::Due) => to(Restart, Starting),
                    _ => to(Ignore, state),
                };
                assert_eq!(state.on(input), wanted, "{state:?} {input:?}");
            }
        }
    }

    #[test]
    fn stopping_is_for_good() {
        for input in INPUTS {
            assert_eq!(Stopping.on(input).state, Stopping, "{input:?}");
        }
    }

    #[test]
    fn without_a_process_no_signal_is_sent() {
        for input in INPUTS {
            assert!(!matches!(Waiting.on(input).action, Forward | Kill | Collect), "{input:?}");
        }
    }
}
