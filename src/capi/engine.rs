//! Engines of C.
use super::fault::{Fault, Status, guard};
use super::header::{self, kvick_config, kvick_engine, kvick_status};
use super::input;
use crate::backend::Float;
use crate::engine::{Engine, EngineConfig, TierSpec};
use crate::text::Spelling;
use std::ffi::{CString, c_char};

/// What a `kvick_engine` is.
pub(super) struct Handle {
    pub engine: Engine,
    device: CString,
    notice: Option<CString>,
}

/// The engine of a handle.
///
/// # Safety
/// NULL, or a handle that is not freed while the result is used.
pub(super) unsafe fn handle<'a>(engine: *const kvick_engine) -> Result<&'a Handle, Fault> {
    // SAFETY: the caller's promise.
    unsafe { input::reference(engine.cast(), "the engine") }
}

/// A tier by its name, which is not repeated in an error: it may have a password.
fn tier_of(text: &str) -> Result<TierSpec, Fault> {
    text.parse().map_err(|e| Fault::argument(format!("kv_tiers: {e}")))
}

/// A configuration in our words.
///
/// # Safety
/// Strings end with a NUL.
unsafe fn config(c: &kvick_config) -> Result<EngineConfig, Fault> {
    // SAFETY: the caller's promise.
    let (model, device, dtype, kv_dtype, tiers) = unsafe {
        let text = input::optional_text;
        let tiers = input::array(c.kv_tiers, c.kv_tiers_len, "kv_tiers")?.iter();
        let tiers = tiers.map(|&tier| tier_of(input::text(tier, "a KV tier")?)).collect::<Result<Vec<_>, _>>()?;
        (
            text(c.model, "model")?,
            text(c.device, "device")?,
            text(c.dtype, "dtype")?,
            text(c.kv_dtype, "kv_dtype")?,
            tiers,
        )
    };
    let kv_types =
        kv_dtype.map(|text| text.parse().map_err(|e| Fault::argument(format!("kv_dtype: {e}")))).transpose()?;
    let default = EngineConfig::default();
    Ok(EngineConfig {
        model: model.map_or(default.model.clone(), str::to_string),
        device: device.map_or(default.device.clone(), str::to_string),
        float: match dtype {
            None => default.float,
            Some("f16") => Float::F16,
            Some("bf16") => Float::BF16,
            Some(other) => return Err(Fault::argument(format!("dtype is {other:?}; there are \"f16\" and \"bf16\""))),
        },
        kv_types,
        tiers,
        verify: c.kv_verify_every != 0,
        verify_every: if c.kv_verify_every == 0 { default.verify_every } else { c.kv_verify_every },
        kv_memory: (c.kv_memory != 0).then_some(c.kv_memory),
        context: input::given(c.context, "context")?,
        max_seqs: input::given(c.max_seqs, "max_seqs")?.unwrap_or(default.max_seqs),
        step_tokens: input::given(c.step_tokens, "step_tokens")?.unwrap_or(default.step_tokens),
        page_tokens: input::given(c.page_tokens, "page_tokens")?.unwrap_or(default.page_tokens),
        ..default
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_engine_open(c: *const kvick_config, engine: *mut *mut kvick_engine) -> Status {
    guard(|| {
        // SAFETY: as the header says.
        let config = unsafe {
            input::set(engine, std::ptr::null_mut(), "the place for the engine")?;
            if c.is_null() { EngineConfig::default() } else { config(&input::read(c)?)? }
        };
        let loaded = Engine::load(config)?;
        let text = |s: &str| CString::new(s.replace('\0', "")).unwrap_or_default();
        let (device, notice) = (text(&loaded.device()), loaded.notice().map(text));
        let handle = Box::new(Handle { engine: loaded, device, notice });
        // SAFETY: checked above.
        unsafe { engine.write(Box::into_raw(handle).cast()) };
        Ok(kvick_status::KVICK_OK)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_engine_free(engine: *mut kvick_engine) {
    guard(|| {
        if !engine.is_null() {
            // SAFETY: a handle of ours, which nobody uses any more.
            drop(unsafe { Box::from_raw(engine.cast::<Handle>()) });
        }
        Ok(kvick_status::KVICK_OK)
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_engine_device(engine: *const kvick_engine) -> *const c_char {
    // SAFETY: as the header says.
    unsafe { handle(engine) }.map_or(std::ptr::null(), |h| h.device.as_ptr())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_engine_notice(engine: *const kvick_engine) -> *const c_char {
    // SAFETY: as the header says.
    let notice = unsafe { handle(engine) }.ok().and_then(|h| h.notice.as_ref());
    notice.map_or(std::ptr::null(), |n| n.as_ptr())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_engine_invalidate(engine: *const kvick_engine, salt: *const c_char) -> Status {
    guard(|| {
        // SAFETY: as the header says.
        let (handle, salt) = unsafe { (handle(engine)?, input::optional_text(salt, "salt")?) };
        match salt {
            Some(salt) => handle.engine.invalidate_salt(salt.as_bytes())?,
            None => handle.engine.invalidate_model()?,
        };
        Ok(kvick_status::KVICK_OK)
    })
}

/// What the spelling of a control token means under `flags`, of which only the `allowed` may be set.
pub(super) fn spelling(flags: u32, allowed: u32) -> Result<Spelling, Fault> {
    if flags & !allowed != 0 {
        return Err(Fault::argument(format!("flags {:#x} are not known here", flags & !allowed)));
    }
    Ok(if flags & header::KVICK_CONTROL_TOKENS != 0 { Spelling::Control } else { Spelling::Text })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvick_tokenize(
    engine: *const kvick_engine,
    text: *const c_char,
    flags: u32,
    ids: *mut u32,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: as the header says.
        let (handle, text) = unsafe {
            input::set(len, 0, "the place for the length")?;
            input::room(ids.cast_const(), capacity, "ids")?;
            (handle(engine)?, input::text(text, "text")?)
        };
        let found = handle.engine.tokenizer().encode(text, spelling(flags, header::KVICK_CONTROL_TOKENS)?)?;
        // SAFETY: checked above; `ids` is the caller's memory and has room for `capacity`.
        unsafe {
            if capacity > 0 {
                ids.copy_from_nonoverlapping(found.as_ptr(), found.len().min(capacity));
            }
            len.write(found.len());
        }
        Ok(kvick_status::KVICK_OK)
    })
}
