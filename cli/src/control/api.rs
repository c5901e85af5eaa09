//! What requests mean and what the answers are, whatever carries them.

use super::Controls;
use super::messages::{
    BatteryFields, Fault, InstanceInfo, SuspensionReport, SuspensionState, SwapAction, SwapReport,
    SwapRequest,
};
use crate::failure::chain;
use firstlight_vmm::{Battery, Swap, SwapError, SwapStatus, Wakefulness};
use hyper::{Method, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The longest body of a request, as Firecracker has it.
pub(super) const MAX_BODY: usize = 51_200;
/// Where memory is swapped.
pub(super) const SWAP: &str = "/firstlight/swap";
/// Where its battery is.
pub(super) const BATTERY: &str = "/firstlight/battery";
/// Where it is told whether the guest sleeps.
pub(super) const SUSPENSION: &str = "/firstlight/suspension";
/// The longest that an answer waits for what a client waits for; then it is told that it is not so yet.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a guest is called that nobody gave a name, as Firecracker has it.
const ANONYMOUS: &str = "anonymous-instance";

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    Info,
    SwapStatus,
    Swap(SwapAction),
    BatteryState,
    SetBattery(BatteryFields),
    Suspension(Option<SuspensionState>),
}

impl Call {
    /// What `method` at `uri` asks for with that body.
    pub(super) fn of(method: &Method, uri: &Uri, body: &[u8]) -> Result<Self, Answer> {
        let path = uri.path();
        match (method, path) {
            (&Method::GET, "/") => Ok(Self::Info),
            (&Method::GET, SWAP) => Ok(Self::SwapStatus),
            (&Method::PUT, SWAP) => {
                parse::<SwapRequest>(body).map(|asked| Self::Swap(asked.action))
            }
            (&Method::GET, BATTERY) => Ok(Self::BatteryState),
            (&Method::PATCH, BATTERY) => parse(body).map(Self::SetBattery),
            (&Method::GET, SUSPENSION) => waited_for(uri.query()).map(Self::Suspension),
            _ => Err(Answer::refusal(&format!(
                "Invalid request method and/or path: {method} {path}."
            ))),
        }
    }

    /// Does it, however long that takes. Without `controls` there is no machine just now.
    pub(super) fn carry_out(self, controls: Option<&Controls>) -> Answer {
        match (self, controls) {
            (Self::Info, controls) => Answer::ok(&InstanceInfo {
                app_name: "Firstlight".to_owned(),
                id: ANONYMOUS.to_owned(),
                state: match controls {
                    Some(_) => "Running".to_owned(),
                    None => "Not started".to_owned(),
                },
                vmm_version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            (_, None) => Answer::refusal("The guest is not running."),
            (Self::SwapStatus, Some(controls)) => swap(controls, Swap::status),
            (Self::Swap(SwapAction::Out), Some(controls)) => swap(controls, Swap::page_out),
            (Self::Swap(SwapAction::In), Some(controls)) => swap(controls, Swap::page_in),
            (Self::BatteryState, Some(controls)) => battery(controls, &BatteryFields::new()),
            (Self::SetBattery(fields), Some(controls)) => battery(controls, &fields),
            (Self::Suspension(wanted), Some(controls)) => suspension(controls, wanted),
        }
    }
}

/// What is waited for, by `wait=STATE`.
fn waited_for(query: Option<&str>) -> Result<Option<SuspensionState>, Answer> {
    match query {
        None => Ok(None),
        Some("wait=awake") => Ok(Some(SuspensionState::Awake)),
        Some("wait=suspended") => Ok(Some(SuspensionState::Suspended)),
        Some(query) => Err(Answer::refusal(&format!(
            "Invalid query: {query}. There are wait=awake and wait=suspended."
        ))),
    }
}

fn suspension(controls: &Controls, wanted: Option<SuspensionState>) -> Answer {
    let Some(suspension) = &controls.suspension else {
        return Answer::refusal(
            "The guest does not say when it sleeps: it was started without --suspend-notice.",
        );
    };
    let now = match wanted {
        None => suspension.now(),
        Some(SuspensionState::Awake) => suspension.wait_for(Wakefulness::Awake, PATIENCE),
        Some(SuspensionState::Suspended) => suspension.wait_for(Wakefulness::Suspended, PATIENCE),
    };
    let state = match now {
        Wakefulness::Awake => SuspensionState::Awake,
        Wakefulness::Suspended => SuspensionState::Suspended,
        Wakefulness::Ended => return Answer::refusal("The guest is not running."),
    };
    Answer::ok(&SuspensionReport { state })
}

/// What the battery is like when `fields` have been set.
fn battery(controls: &Controls, fields: &BatteryFields) -> Answer {
    let Some(battery) = &controls.battery else {
        return Answer::refusal("The guest has no battery: it was started without --battery.");
    };
    match set(battery, fields) {
        Ok(()) => Answer::ok(&shown(battery)),
        Err(refusal) => refusal,
    }
}

fn set(battery: &Battery, fields: &BatteryFields) -> Result<(), Answer> {
    if fields.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = fields
        .iter()
        .map(|(key, value)| match value {
            Value::String(text) if !text.contains(',') => format!("{key}={text}"),
            value => format!("{key}={value}"),
        })
        .collect();
    let state = battery.get().with(&words.join(","));
    let done = state.and_then(|state| battery.set(state));
    done.map_err(|error| Answer::refusal(&told(&error)))
}

fn shown(battery: &Battery) -> BatteryFields {
    let words = battery.get().to_string();
    let fields = words.split(',').filter_map(|word| word.split_once('='));
    let fields = fields.map(|(key, value)| {
        let number = value.parse::<i64>().map(Value::from);
        (
            key.to_owned(),
            number.unwrap_or_else(|_word| Value::from(value)),
        )
    });
    fields.collect()
}

fn swap(controls: &Controls, act: impl FnOnce(&Swap) -> Result<SwapStatus, SwapError>) -> Answer {
    let Some(swap) = &controls.swap else {
        return Answer::refusal(
            "The guest's memory cannot be swapped: it was started without --swap.",
        );
    };
    // Where it has gone, so has the machine.
    let swap: Option<Arc<Swap>> = Weak::upgrade(swap);
    match swap.ok_or(SwapError::Ended).and_then(|swap| act(&swap)) {
        Ok(status) => Answer::ok(&SwapReport::from(&status)),
        Err(error) => Answer::refusal(&told(&error)),
    }
}

/// What failed, because of what.
fn told(error: &(dyn Error + 'static)) -> String {
    chain(error).join(": ")
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|error| {
        Answer::refusal(&format!(
            "An error occurred when deserializing the json body of a request: {error}."
        ))
    })
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Answer {
    fn ok(body: &impl Serialize) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// What is wrong with a request; Firecracker has one status for all of it.
    pub(super) fn refusal(why: &str) -> Self {
        let fault = Fault {
            fault_message: why.to_owned(),
        };
        Self::new(StatusCode::BAD_REQUEST, &fault)
    }

    /// The same for what is too long.
    pub(super) fn too_long() -> Self {
        let fault = Fault {
            fault_message: format!("The body of a request is longer than {MAX_BODY} bytes."),
        };
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, &fault)
    }

    fn new(status: StatusCode, body: &impl Serialize) -> Self {
        let body = serde_json::to_value(body).expect("string keys and no serializer that fails");
        Self { status, body }
    }
}
