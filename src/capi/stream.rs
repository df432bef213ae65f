//! Requests and streams of C.
use super::engine::{handle as engine_handle, spelling};
use super::fault::{Fault, Status, guard};
use super::header::{self, kvick_engine, kvick_finish_reason, kvick_request, kvick_result, kvick_status, kvick_stream};
use super::input;
use crate::engine::{Canceller, FinishReason, Prompt, Request, Sampling, Stream};
use crate::text::Message;
use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// What a `kvick_stream` is: cancelled without its lock, which a waiting thread holds.
struct Handle {
    canceller: Canceller,
    state: Mutex<State>,
}

struct State {
    stream: Stream,
    /// The piece that the user reads, with its NUL.
    piece: Vec<u8>,
    /// All text, with its NUL, once it was asked for.
    whole: Option<Vec<u8>>,
}

impl Handle {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Safety
/// NULL, or a handle that is not freed while the result is used.
unsafe fn handle<'a>(stream: *const kvick_stream) -> Result<&'a Handle, Fault> {
    // SAFETY: the caller's promise.
    unsafe { input::reference(stream.cast(), "the stream") }
}

fn with_nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// The one prompt of a request.
///
/// # Safety
/// Strings end with a NUL, arrays have their lengths.
unsafe fn prompt(r: &kvick_request) -> Result<Prompt, Fault> {
    let spelling = spelling(r.flags, header::KVICK_CONTROL_TOKENS | header::KVICK_IGNORE_EOS)?;
    // SAFETY: the caller's promise.
    unsafe {
        match (!r.text.is_null(), !r.ids.is_null(), !r.messages.is_null()) {
            (true, false, false) => Ok(Prompt::Text(input::text(r.text, "text")?.into(), spelling)),
            (false, true, false) => Ok(Prompt::Ids(input::array(r.ids, r.ids_len, "ids")?.into())),
            (false, false, true) => {
                let messages = input::array(r.messages, r.messages_len, "messages")?.iter();
                let message = |m: &header::kvick_message| {
                    Ok(Message::new(input::text(m.role, "role")?, input::text(m.content, "content")?))
                };
                Ok(Prompt::Chat(messages.map(message).collect::<Result<_, Fault>>()?))
            }
            _ => Err(Fault::argument("a request has exactly one of text, ids and messages")),
        }
    }
}

/// A request in our words.
///
/// # Safety
/// As [`prompt`].
unsafe fn request(r: &kvick_request) -> Result<Request, Fault> {
    let default = Sampling::default();
    let or = |given: f32, default: f32| if given == 0.0 { default } else { given };
    let sampling = Sampling {
        temperature: r.temperature,
        top_k: r.top_k,
        top_p: or(r.top_p, default.top_p),
        min_p: r.min_p,
        repeat_penalty: or(r.repeat_penalty, default.repeat_penalty),
        seed: (r.seed != 0).then_some(r.seed),
    };
    // SAFETY: the caller's promise.
    let (prompt, stop) = unsafe {
        let stop = input::array(r.stop, r.stop_len, "stop")?.iter();
        let stop = stop.map(|&text| input::text(text, "a stop text").map(str::to_string));
        (prompt(r)?, stop.collect::<Result<Vec<_>, _>>()?)
    };
    // SAFETY: the caller's promise.
    let salt = unsafe { input::optional_text(r.salt, "salt")? }.unwrap_or_default().into();
    let mut request = Request { sampling, stop, salt, priority: r.priority, ..Request::new(prompt) };
    request.ignore_eos = r.flags & header::KVICK_IGNORE_EOS != 0;
    request.max_tokens = input::given(r.max_tokens, "max_tokens")?.unwrap_or(request.max_tokens);
    Ok(request)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_submit(
    engine: *const kvick_engine,
    r: *const kvick_request,
    stream: *mut *mut kvick_stream,
) -> Status {
    guard(|| {
        // SAFETY: as the header says.
        let (engine, request) = unsafe {
            input::set(stream, std::ptr::null_mut(), "the place for the stream")?;
            (engine_handle(engine)?, request(&input::read(r)?)?)
        };
        let queued = engine.engine.submit(request)?;
        let canceller = queued.canceller();
        let state = Mutex::new(State { stream: queued, piece: Vec::new(), whole: None });
        // SAFETY: checked above.
        unsafe { stream.write(Box::into_raw(Box::new(Handle { canceller, state })).cast()) };
        Ok(kvick_status::KVICK_OK)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_stream_next(
    stream: *mut kvick_stream,
    timeout_ms: i64,
    text: *mut *const c_char,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: as the header says.
        let handle = unsafe {
            input::set(text, std::ptr::null(), "the place for the text")?;
            if !len.is_null() {
                input::set(len, 0, "the place for the length")?;
            }
            handle(stream)?
        };
        let mut state = handle.lock();
        let next = match u64::try_from(timeout_ms) {
            Ok(milliseconds) => state.stream.poll_text(Duration::from_millis(milliseconds))?,
            Err(_) => Poll::Ready(state.stream.next_text()?),
        };
        match next {
            Poll::Pending => Ok(kvick_status::KVICK_PENDING),
            Poll::Ready(None) => Ok(kvick_status::KVICK_END),
            Poll::Ready(Some(piece)) => {
                state.piece = with_nul(&piece);
                // SAFETY: checked above.
                unsafe {
                    text.write(state.piece.as_ptr().cast());
                    if !len.is_null() {
                        len.write(piece.len());
                    }
                }
                Ok(kvick_status::KVICK_OK)
            }
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_stream_result(stream: *const kvick_stream, result: *mut kvick_result) -> Status {
    guard(|| {
        // SAFETY: as the header says.
        let handle = unsafe { handle(stream)? };
        let state = &mut *handle.lock();
        let Some(done) = state.stream.completion() else {
            return Ok(kvick_status::KVICK_PENDING);
        };
        let text = state.whole.get_or_insert_with(|| with_nul(&done.text));
        let value = kvick_result {
            size: 0,
            text: text.as_ptr().cast(),
            text_len: done.text.len(),
            ids: done.ids.as_ptr(),
            ids_len: done.ids.len(),
            prompt_tokens: done.prompt_tokens as u64,
            cached_tokens: done.cached_tokens as u64,
            finish_reason: match done.reason {
                FinishReason::Stop => kvick_finish_reason::KVICK_FINISH_STOP,
                FinishReason::Length => kvick_finish_reason::KVICK_FINISH_LENGTH,
                FinishReason::Cancelled => kvick_finish_reason::KVICK_FINISH_CANCELLED,
            },
        };
        // SAFETY: as the header says.
        unsafe { input::write(result, &value)? };
        Ok(kvick_status::KVICK_OK)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_stream_cancel(stream: *const kvick_stream) {
    // SAFETY: as the header says.
    if let Ok(handle) = unsafe { handle(stream) } {
        handle.canceller.cancel();
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_stream_free(stream: *mut kvick_stream) {
    guard(|| {
        if !stream.is_null() {
            // SAFETY: a handle of ours, which nobody uses any more.
            drop(unsafe { Box::from_raw(stream.cast::<Handle>()) });
        }
        Ok(kvick_status::KVICK_OK)
    });
}
