//! `firstlight ctl`: the end of the control socket that people have.

use super::api::{BATTERY, SUSPENSION, SWAP};
use super::messages::{
    BatteryFields, Fault, SuspensionReport, SuspensionState, SwapAction, SwapReport, SwapRequest,
};
use crate::args::{CtlArgs, CtlFormat, CtlVerb, SwapVerb};
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, printable};
use crate::json;
use crate::output;
use crate::progress::Progress;
use firstlight_boot::draw::Size;
use firstlight_vmm::connect_to;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use tokio::net::UnixStream;
use tokio::runtime;

/// The longest answer that is listened to.
const MAX_ANSWER: usize = 16 << 20;
/// The name and version of the JSON.
const SCHEMA: &str = "firstlight.ctl/1";

/// Asks a running guest's process for something, and shows what it answers.
pub(crate) fn ctl(args: &CtlArgs, progress: Progress) -> Result<(), Failure> {
    let socket = Socket(&args.api_sock);
    match &args.verb {
        CtlVerb::Swap(verb) => {
            let report = swap(&socket, *verb, progress)?;
            show(args.format, "swap", &report, swap_text)
        }
        CtlVerb::Battery { words } => {
            let fields = battery(&socket, words.as_deref())?;
            show(args.format, "battery", &fields, battery_text)
        }
        CtlVerb::Suspension { wait } => {
            let report = suspension(&socket, *wait, progress)?;
            show(args.format, "suspension", &report, |report| {
                match report.state {
                    SuspensionState::Awake => "awake\n".to_owned(),
                    SuspensionState::Suspended => "suspended\n".to_owned(),
                }
            })
        }
    }
}

fn swap(socket: &Socket<'_>, verb: SwapVerb, progress: Progress) -> Result<SwapReport, Failure> {
    let (doing, action) = match verb {
        SwapVerb::Status => return socket.get(SWAP),
        SwapVerb::Out => ("paging the guest's memory out", SwapAction::Out),
        SwapVerb::In => ("paging the guest's memory in", SwapAction::In),
    };
    progress.step(doing, || socket.put(SWAP, &SwapRequest { action }))
}

fn battery(socket: &Socket<'_>, words: Option<&str>) -> Result<BatteryFields, Failure> {
    let Some(words) = words else {
        return socket.get(BATTERY);
    };
    let words = words.split(',').filter(|word| !word.is_empty());
    let fields = words.map(|word| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        (key.to_owned(), value.into())
    });
    socket.ask(
        Method::PATCH,
        BATTERY,
        &to_json(&fields.collect::<BatteryFields>()),
    )
}

fn battery_text(fields: &BatteryFields) -> String {
    let mut text = String::new();
    for (key, value) in fields {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        writeln!(text, "{key:<16} {}", printable(&value)).expect("a String takes all");
    }
    text
}

/// Whether the guest sleeps; where something is waited for, once it is so.
fn suspension(
    socket: &Socket<'_>,
    wait: Option<SuspensionState>,
    progress: Progress,
) -> Result<SuspensionReport, Failure> {
    let path = match wait {
        None => return socket.get(SUSPENSION),
        Some(SuspensionState::Awake) => format!("{SUSPENSION}?wait=awake"),
        Some(SuspensionState::Suspended) => format!("{SUSPENSION}?wait=suspended"),
    };
    progress.step("waiting for the guest", || {
        loop {
            let report: SuspensionReport = socket.get(&path)?;
            if Some(report.state) == wait {
                return Ok(report);
            }
        }
    })
}

fn swap_text(report: &SwapReport) -> String {
    let mut text = String::new();
    let mut line = |what: &str, is: &str| {
        writeln!(text, "{what:<12} {is}").expect("a String takes all");
    };
    line("memory", if report.out { "out" } else { "in" });
    line("resident", &Size(report.resident_bytes).to_string());
    line("swapped", &Size(report.swapped_bytes).to_string());
    line("zeros", &Size(report.zero_bytes).to_string());
    line("left out", &Size(report.left_out_bytes).to_string());
    line("faults", &report.faults.to_string());
    for (what, moved) in [("went out", report.went_out), ("came in", report.came_in)] {
        if moved.bytes > 0 {
            line(
                what,
                &format!("{} in {:.3} s", Size(moved.bytes), moved.seconds),
            );
        }
    }
    if report.lost_pages > 0 {
        line("lost pages", &report.lost_pages.to_string());
    }
    text
}

/// Shows an answer as text, or as JSON beside its schema.
fn show<T: Serialize>(
    format: CtlFormat,
    what: &str,
    answer: &T,
    as_text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match format {
        CtlFormat::Text => output::print(as_text(answer)),
        CtlFormat::Json => {
            let answer = serde_json::json!({ "schema": SCHEMA, what: answer });
            output::print(json::to_text(&answer))
        }
    }
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("string keys and no serializer that fails")
}

/// The socket of a running guest.
struct Socket<'a>(&'a Path);

impl Socket<'_> {
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, "")
    }

    fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.ask(Method::PUT, path, &to_json(body))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<T, Failure> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.failed("have no", &error))?;
        let (is_done, body) =
            runtime.block_on(self.exchange(method, path, body.to_owned().into()))?;
        if is_done {
            return serde_json::from_slice(&body)
                .map_err(|error| self.failed("not understand", &error));
        }
        // Whoever does not speak so is no guest's process.
        let fault: Fault =
            serde_json::from_slice(&body).map_err(|error| self.failed("not understand", &error))?;
        Err(Failure::new(ExitStatus::Host, fault.fault_message))
    }

    /// Whether it was done, and what is said of that.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(bool, Bytes), Failure> {
        let stream = connect_to(self.0).and_then(|stream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        });
        let stream = stream.map_err(|error| self.failed("reach", &error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.failed("talk to", &error))?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .body(Full::new(body))
            .map_err(|error| self.failed("ask", &error))?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| self.failed("be answered by", &error))?;
        let is_done = answer.status().is_success();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| self.failed("be answered by", &*error))?;
        connection.abort();
        Ok((is_done, body.to_bytes()))
    }

    fn failed(&self, what: &str, error: &(dyn Error + 'static)) -> Failure {
        let what = format!("cannot {what} the guest's process at {}", self.0.display());
        Failure::because(ExitStatus::Host, what, error)
    }
}
