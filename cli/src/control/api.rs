//! What requests mean and what the answers are, whatever carries them.

use super::Controls;
use super::messages::{Fault, InstanceInfo, SwapAction, SwapReport, SwapRequest};
use firstlight_vmm::{Swap, SwapError};
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error;
use std::sync::{Arc, Weak};

/// The longest body of a request, as Firecracker has it.
pub(super) const MAX_BODY: usize = 51_200;
/// Where memory is swapped.
pub(super) const SWAP: &str = "/firstlight/swap";
/// What a guest is called that nobody gave a name, as Firecracker has it.
const ANONYMOUS: &str = "anonymous-instance";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Info,
    SwapStatus,
    Swap(SwapAction),
}

impl Call {
    /// What `method` at `path` asks for with that body.
    pub(super) fn of(method: &Method, path: &str, body: &[u8]) -> Result<Self, Answer> {
        match (method, path) {
            (&Method::GET, "/") => Ok(Self::Info),
            (&Method::GET, SWAP) => Ok(Self::SwapStatus),
            (&Method::PUT, SWAP) => {
                parse::<SwapRequest>(body).map(|asked| Self::Swap(asked.action))
            }
            _ => Err(Answer::refusal(&format!(
                "Invalid request method and/or path: {method} {path}."
            ))),
        }
    }

    /// Does it, however long that takes. Without `controls` there is no machine just now.
    pub(super) fn carry_out(self, controls: Option<&Controls>) -> Answer {
        match self {
            Self::Info => Answer::ok(&InstanceInfo {
                app_name: "Firstlight".to_owned(),
                id: ANONYMOUS.to_owned(),
                state: match controls {
                    Some(_) => "Running".to_owned(),
                    None => "Not started".to_owned(),
                },
                vmm_version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            Self::SwapStatus => swap(controls, Swap::status),
            Self::Swap(SwapAction::Out) => swap(controls, Swap::page_out),
            Self::Swap(SwapAction::In) => swap(controls, Swap::page_in),
        }
    }
}

fn swap(
    controls: Option<&Controls>,
    act: impl FnOnce(&Swap) -> Result<firstlight_vmm::SwapStatus, SwapError>,
) -> Answer {
    let Some(controls) = controls else {
        return Answer::refusal("The guest is not running.");
    };
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
fn told(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told.push_str(&format!(": {error}"));
        cause = error.source();
    }
    told
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
