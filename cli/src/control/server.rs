//! The end of the control socket that the guest's process has.

use super::Desk;
use super::api::{Answer, Call, MAX_BODY};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use firstlight_vmm::{Listener, leave_signals_to_others};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// So many clients are served at once; more wait to be.
const MAX_CLIENTS: usize = 256;
/// The longest that the lines before a body may be.
const MAX_HEAD: usize = 16 << 10;
/// How long a client may take for a request's head, and be silent between two; and how long for a body.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long is waited where the host has no descriptors: it says nothing when it has some.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the control socket until it is dropped; the socket's file goes with it.
#[derive(Debug)]
pub(crate) struct Server {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `path`, where nobody may connect but this user.
    pub(crate) fn start(path: &Path, desk: Arc<Desk>) -> Result<Self, Failure> {
        let failed = |error: &(dyn Error + 'static)| {
            Failure::because(ExitStatus::Host, "cannot serve --api-sock", error)
        };
        let listener = Listener::bind_for_owner(path).map_err(|error| failed(&error))?;
        let runtime = runtime().map_err(|error| failed(&error))?;
        let clients = listener.socket().and_then(|socket| {
            let _inside = runtime.enter();
            UnixListener::from_std(socket)
        });
        let clients = clients.map_err(|error| failed(&error))?;
        let (end, ended) = oneshot::channel();
        let serve = move || {
            leave_signals_to_others();
            runtime.spawn(serve(clients, desk));
            // That whoever was to say it has gone says it, too.
            let _ended = runtime.block_on(ended);
            drop(listener);
            // A request that is being carried out has nobody to be told any more.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("control".to_owned());
        let thread = thread.spawn(serve).map_err(|error| failed(&error))?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_CLIENTS)
        .build()
}

async fn serve(clients: UnixListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    // Nobody closes it.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match clients.accept().await {
            Ok((client, _)) => {
                tokio::spawn(attend(client, Arc::clone(&desk), place));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Serves one client until it goes.
async fn attend(client: UnixStream, desk: Arc<Desk>, _place: OwnedSemaphorePermit) {
    let service = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(response(&answer(request, &desk).await)) }
    });
    // What a client does wrong below HTTP has been answered, or there is nobody to answer.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        // One that has said all still wants to be answered.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(client), service)
        .await;
}

async fn answer(request: Request<Incoming>, desk: &Desk) -> Answer {
    let (head, body) = request.into_parts();
    // What is announced is not waited for.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Answer::too_long();
    }
    let body = match timeout(PATIENCE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Answer::too_long(),
        Ok(Err(error)) => return Answer::refusal(&format!("The body cannot be read: {error}.")),
        Err(_late) => return Answer::refusal("The body of the request does not come."),
    };
    let call = match Call::of(&head.method, &head.uri, &body) {
        Ok(call) => call,
        Err(refusal) => return refusal,
    };
    let controls = desk.now();
    let carried = spawn_blocking(move || call.carry_out(controls.as_ref()));
    let failed = |_panic| Answer::refusal("The request could not be carried out.");
    carried.await.unwrap_or_else(failed)
}

fn response(answer: &Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.body.to_string()));
    *response.status_mut() = answer.status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
