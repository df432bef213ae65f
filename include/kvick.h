/*
 * kvick: an LLM inference engine with hand-written CUDA kernels, built around its KV cache.
 *
 *     kvick_engine *engine;
 *     kvick_stream *stream;
 *     kvick_config config = {.size = sizeof config};
 *     kvick_request request = {.size = sizeof request, .text = "The capital of France is"};
 *     if (kvick_engine_open(&config, &engine) < 0 || kvick_submit(engine, &request, &stream) < 0) {
 *         fprintf(stderr, "%s\n", kvick_last_error());
 *     }
 *
 * examples/generate.c is a whole program.
 *
 * Structs. Set `size` to the struct's sizeof and the rest to zero but for what you choose: zero is each field's default.
 * Later versions add fields at the end, and take what was compiled against an older header. A struct of a newer header is
 * taken by an older library where the fields it does not know are zero.
 *
 * Strings are UTF-8 and end with a NUL; where a length is given as well, it counts bytes without that NUL, and the text may
 * itself hold NULs. What goes into a call is copied before it returns. What comes out belongs to the handle it came from,
 * for as long as its function says; nothing is freed but handles.
 *
 * Errors. A negative kvick_status is an error; kvick_last_error() says what was wrong and what cures it. NULL where it is
 * not allowed, text that is no UTF-8 and numbers out of range are errors; a bad pointer or a freed handle cannot be told from a good
 * one. Nothing is printed, no exception or panic leaves a call, and no signal handler is set.
 *
 * Threads. One engine serves any number of threads at once, and batches what they ask. A stream may be cancelled by any
 * thread at any time, also while another waits for its text; its other functions wait for each other. Freeing a handle
 * must be the last thing done with it.
 */
#ifndef KVICK_H
#define KVICK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header; kvick_version() is the library's. */
#define KVICK_VERSION "0.1.0"

/* What a call came to. Negative: an error. */
typedef enum kvick_status {
    KVICK_OK = 0,
    /* The stream is at its end. */
    KVICK_END = 1,
    /* Nothing came in the time that was given. */
    KVICK_PENDING = 2,
    /* An argument of the call itself: NULL, not UTF-8, a struct's size. */
    KVICK_ERROR_ARGUMENT = -1,
    /* What can never be served: an empty prompt, one longer than the context or the KV memory, bad sampling parameters. */
    KVICK_ERROR_REQUEST = -2,
    /* The model file is damaged. */
    KVICK_ERROR_MODEL = -3,
    /* An architecture, tensor type or option that kvick does not have. */
    KVICK_ERROR_UNSUPPORTED = -4,
    KVICK_ERROR_OUT_OF_MEMORY = -5,
    /* The device or its driver. */
    KVICK_ERROR_DEVICE = -6,
    /* A value left the range of f16: use the dtype bf16. */
    KVICK_ERROR_OVERFLOW = -7,
    KVICK_ERROR_IO = -8,
    /* There is no such model, or it could not be downloaded. */
    KVICK_ERROR_FETCH = -9,
    /* A bug of kvick. */
    KVICK_ERROR_INTERNAL = -10
} kvick_status;

/* Why a generation ended. */
typedef enum kvick_finish_reason {
    /* The model ended the text, or a stop text came. */
    KVICK_FINISH_STOP = 1,
    /* max_tokens, the context or the KV memory was reached. */
    KVICK_FINISH_LENGTH = 2,
    KVICK_FINISH_CANCELLED = 3
} kvick_finish_reason;

/* For kvick_request.flags: the spellings of control tokens in `text` are these tokens. By default text is only text. */
#define KVICK_CONTROL_TOKENS 1u
/* For kvick_request.flags: go on past the tokens with which the model ends a text. */
#define KVICK_IGNORE_EOS 2u

/* A loaded model and the thread that runs it. */
typedef struct kvick_engine kvick_engine;
/* The answer to one request, as it comes. */
typedef struct kvick_stream kvick_stream;

typedef struct kvick_config {
    size_t size;
    /* A name that kvick downloads, "hf:owner/name[:file]", or the path of a GGUF file or checkpoint folder; NULL:
       smollm2-135m. */
    const char *model;
    /* "auto", "cuda:N", "emulator" or "cpu"; NULL: auto. A process keeps the CUDA driver that it used first. */
    const char *device;
    /* Compute type, "f16" or "bf16"; NULL: f16. */
    const char *dtype;
    /* Bytes for KV pages; 0: one sequence of the whole context, at least 512 MiB, at most 90 % of what is free. */
    uint64_t kv_memory;
    /* Longest sequence in tokens, prompt and answer together; 0: what the model was trained for. */
    uint64_t context;
    /* Sequences that run at once; 0: 16. */
    uint64_t max_seqs;
    /* Tokens of a step of the model; 0: 512. */
    uint64_t step_tokens;
    /* Tokens of a KV page: 8, 16 or 32; 0: 16. */
    uint64_t page_tokens;
    /* Type of the KV pages, as --kv-dtype: "f16", "bf16", "int8", "fp8", or "k=TYPE,v=TYPE"; NULL: the compute type. */
    const char *kv_dtype;
    /* Where pages go that are kept below the device, each as --kv-tier: "host=2GiB", "disk=PATH,10GiB", ... */
    const char *const *kv_tiers;
    size_t kv_tiers_len;
    /* Checks pages from tiers once more, on the device, and computes one in so many of the pages that prompts find again, to
       compare; 0: neither. */
    uint64_t kv_verify_every;
} kvick_config;

typedef struct kvick_message {
    /* "system", "user" or "assistant", as the model's chat template knows them. */
    const char *role;
    const char *content;
} kvick_message;

typedef struct kvick_request {
    size_t size;
    /* The prompt: exactly one of `text`, `ids` and `messages` (a conversation, by the model's chat template). */
    const char *text;
    const uint32_t *ids;
    size_t ids_len;
    const kvick_message *messages;
    size_t messages_len;
    /* Texts that end the answer; they are not part of it. */
    const char *const *stop;
    size_t stop_len;
    /* Tokens of the answer at most; 0: 64. */
    uint64_t max_tokens;
    /* The same seed gives the same text, whatever runs beside it; 0: a random one. */
    uint64_t seed;
    /* 0 takes the most likely token. */
    float temperature;
    /* Draw from this many best tokens; 0: all. */
    uint32_t top_k;
    /* Draw from the best tokens that together have this probability; 0: all. */
    float top_p;
    /* Draw from tokens with at least this part of the best one's probability; 0: all. */
    float min_p;
    /* Divides the logits of tokens among the last 64; 0: off. */
    float repeat_penalty;
    /* KVICK_CONTROL_TOKENS and KVICK_IGNORE_EOS. */
    uint32_t flags;
    /* Requests of higher priority leave the queue first. */
    int32_t priority;
    /* Keeps tenants apart: a request finds in the KV cache only what requests with the same salt have computed; NULL: "". */
    const char *salt;
} kvick_request;

typedef struct kvick_result {
    size_t size;
    /* All text, as streamed. */
    const char *text;
    size_t text_len;
    /* Generated tokens, without the one that ended the text. */
    const uint32_t *ids;
    size_t ids_len;
    /* Tokens of the prompt. */
    uint64_t prompt_tokens;
    /* Of these, found in the KV cache. */
    uint64_t cached_tokens;
    kvick_finish_reason finish_reason;
} kvick_result;

/* "MAJOR.MINOR.PATCH"; for the life of the program. */
const char *kvick_version(void);

/* What the last failed call of this thread has to say; "" if none failed. Until this thread's next failed call. */
const char *kvick_last_error(void);

/* Opens the device, downloads the model if it is given by name and is not there, and loads it: seconds or minutes. NULL
   takes every default. `*engine` is for kvick_engine_free; NULL after an error. */
kvick_status kvick_engine_open(const kvick_config *config, kvick_engine **engine);

/* Ends what still runs: streams of the engine may outlive it, and then end with an error. NULL is allowed. */
void kvick_engine_free(kvick_engine *engine);

/* What the device is called; NULL for no engine. As long as the engine. */
const char *kvick_engine_device(const kvick_engine *engine);

/* A line to show to the user where "auto" had to take the emulated GPU, else NULL. As long as the engine. */
const char *kvick_engine_notice(const kvick_engine *engine);

/* Takes everything that was computed for the tenant with this salt out of service, or, for NULL, for all tenants. Requests that
   run go on. */
kvick_status kvick_engine_invalidate(const kvick_engine *engine, const char *salt);

/* Token ids of a text, with the bos and eos that the model wants around it. `flags`: KVICK_CONTROL_TOKENS or 0. Writes the
   first `capacity` of them to `ids` (which may be NULL if `capacity` is 0) and how many there are to `*len`. */
kvick_status kvick_tokenize(const kvick_engine *engine, const char *text, uint32_t flags, uint32_t *ids, size_t capacity,
                            size_t *len);

/* Queues a request and returns at once. `*stream` is for kvick_stream_free; NULL after an error. */
kvick_status kvick_submit(const kvick_engine *engine, const kvick_request *request, kvick_stream **stream);

/* Waits for the next piece of text: whole characters, never a part of a stop text. Waits `timeout_ms` at most; without
   end if that is negative, not at all if it is 0.
   KVICK_OK: `*text` and, unless it is NULL, `*len`; until the next call for this stream. KVICK_PENDING: nothing came yet.
   KVICK_END: no more text; kvick_stream_result has the rest. An error ends the stream too. `*text` is NULL but for
   KVICK_OK. */
kvick_status kvick_stream_next(kvick_stream *stream, int64_t timeout_ms, const char **text, size_t *len);

/* The whole answer, after KVICK_END; KVICK_PENDING before. Its pointers are good as long as the stream. */
kvick_status kvick_stream_result(const kvick_stream *stream, kvick_result *result);

/* Ends the request before the engine's next step; the stream then comes to its end. NULL is allowed. */
void kvick_stream_cancel(const kvick_stream *stream);

/* Cancels what still runs. NULL is allowed. */
void kvick_stream_free(kvick_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
