/* The C ABI from C: every function's good and bad calls, and threads. Usage: abi MODEL. Says nothing unless a check fails. */
#include "kvick.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\nlast error: %s\n", __FILE__, __LINE__, #condition, kvick_last_error());        \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A call that must fail with this status and a message with this in it. */
#define FAILS(status, words, call)                                                                                     \
    do {                                                                                                               \
        CHECK((call) == (status));                                                                                     \
        CHECK(strstr(kvick_last_error(), words));                                                                      \
    } while (0)

static const char *model;

static kvick_config config_of(void) {
    kvick_config config = {.size = sizeof config, .model = model, .device = "cpu"};
    config.context = 256;
    config.kv_memory = 1 << 20;
    return config;
}

static kvick_request request_of(const char *text) {
    kvick_request request = {.size = sizeof request, .text = text};
    request.max_tokens = 8;
    request.flags = KVICK_IGNORE_EOS;
    return request;
}

static void opening(void) {
    kvick_config config = config_of();
    kvick_engine *engine = (kvick_engine *)&config;
    FAILS(KVICK_ERROR_ARGUMENT, "place for the engine is NULL", kvick_engine_open(&config, NULL));
    config.size = sizeof(void *);
    FAILS(KVICK_ERROR_ARGUMENT, "sizeof(kvick_config)", kvick_engine_open(&config, &engine));
    CHECK(engine == NULL);
    config = config_of();
    config.model = "/no/such/model.gguf";
    FAILS(KVICK_ERROR_FETCH, "/no/such/model.gguf", kvick_engine_open(&config, &engine));
    config.model = "\xff";
    FAILS(KVICK_ERROR_ARGUMENT, "model is not UTF-8", kvick_engine_open(&config, &engine));
    config = config_of();
    config.device = "abacus";
    CHECK(kvick_engine_open(&config, &engine) < 0 && strstr(kvick_last_error(), "abacus"));
    config = config_of();
    config.dtype = "f8";
    FAILS(KVICK_ERROR_ARGUMENT, "bf16", kvick_engine_open(&config, &engine));
    config = config_of();
    config.page_tokens = 7;
    FAILS(KVICK_ERROR_REQUEST, "8, 16 or 32", kvick_engine_open(&config, &engine));
    config = config_of();
    config.kv_dtype = "int3";
    FAILS(KVICK_ERROR_ARGUMENT, "int8", kvick_engine_open(&config, &engine));
    config = config_of();
    const char *tiers[2] = {"host=1MB", "hots=1MB"};
    config.kv_tiers = tiers;
    config.kv_tiers_len = 2;
    FAILS(KVICK_ERROR_ARGUMENT, "host=SIZE", kvick_engine_open(&config, &engine));
    tiers[1] = NULL;
    FAILS(KVICK_ERROR_ARGUMENT, "a KV tier is NULL", kvick_engine_open(&config, &engine));
    tiers[1] = "host=2MB";
    FAILS(KVICK_ERROR_REQUEST, "two tiers on host", kvick_engine_open(&config, &engine));
    config = config_of();
    config.kv_memory = 1;
    FAILS(KVICK_ERROR_REQUEST, "--kv-memory", kvick_engine_open(&config, &engine));
    CHECK(engine == NULL);
}

static void requests(kvick_engine *engine) {
    kvick_request request = request_of("abc");
    kvick_stream *stream = (kvick_stream *)&request;
    FAILS(KVICK_ERROR_ARGUMENT, "the engine is NULL", kvick_submit(NULL, &request, &stream));
    CHECK(stream == NULL);
    FAILS(KVICK_ERROR_ARGUMENT, "kvick_request is NULL", kvick_submit(engine, NULL, &stream));
    FAILS(KVICK_ERROR_ARGUMENT, "place for the stream is NULL", kvick_submit(engine, &request, NULL));
    request.size = 0;
    FAILS(KVICK_ERROR_ARGUMENT, "sizeof(kvick_request)", kvick_submit(engine, &request, &stream));
    request = request_of(NULL);
    FAILS(KVICK_ERROR_ARGUMENT, "exactly one", kvick_submit(engine, &request, &stream));
    uint32_t ids[2] = {5, 1000000};
    request.ids = ids;
    FAILS(KVICK_ERROR_REQUEST, "no token", kvick_submit(engine, &request, &stream));
    request.ids_len = SIZE_MAX;
    FAILS(KVICK_ERROR_ARGUMENT, "ids has", kvick_submit(engine, &request, &stream));
    request.ids_len = 2;
    FAILS(KVICK_ERROR_REQUEST, "token 1000000", kvick_submit(engine, &request, &stream));
    request.text = "abc";
    FAILS(KVICK_ERROR_ARGUMENT, "exactly one", kvick_submit(engine, &request, &stream));
    request = request_of("\xc3(");
    FAILS(KVICK_ERROR_ARGUMENT, "text is not UTF-8", kvick_submit(engine, &request, &stream));
    const char *stops[2] = {"x", NULL};
    request = request_of("abc");
    request.stop_len = 2;
    FAILS(KVICK_ERROR_ARGUMENT, "stop is NULL", kvick_submit(engine, &request, &stream));
    request.stop = stops;
    FAILS(KVICK_ERROR_ARGUMENT, "a stop text is NULL", kvick_submit(engine, &request, &stream));
    request = request_of("abc");
    request.flags = 0x80;
    FAILS(KVICK_ERROR_ARGUMENT, "flags 0x80", kvick_submit(engine, &request, &stream));
    request = request_of("abc");
    request.temperature = -1;
    FAILS(KVICK_ERROR_REQUEST, "temperature", kvick_submit(engine, &request, &stream));
    kvick_message message = {"user", NULL};
    request = request_of(NULL);
    request.messages = &message;
    request.messages_len = 1;
    FAILS(KVICK_ERROR_ARGUMENT, "content is NULL", kvick_submit(engine, &request, &stream));
    CHECK(stream == NULL);
}

static void streams(kvick_engine *engine) {
    kvick_request request = request_of("abc");
    kvick_stream *stream;
    const char *text;
    size_t len, bytes = 0;
    char all[256] = "";
    FAILS(KVICK_ERROR_ARGUMENT, "the stream is NULL", kvick_stream_next(NULL, 0, &text, NULL));
    CHECK(kvick_submit(engine, &request, &stream) == KVICK_OK);
    FAILS(KVICK_ERROR_ARGUMENT, "place for the text is NULL", kvick_stream_next(stream, 0, NULL, NULL));
    kvick_status status;
    while ((status = kvick_stream_next(stream, 1, &text, &len)) != KVICK_END) {
        CHECK(status == KVICK_OK || status == KVICK_PENDING);
        CHECK((text != NULL) == (status == KVICK_OK) && bytes + len < sizeof all);
        if (text) {
            CHECK(text[len] == 0);
            memcpy(all + bytes, text, len);
            bytes += len;
        }
    }
    CHECK(text == NULL && kvick_stream_next(stream, -1, &text, NULL) == KVICK_END);
    kvick_result result = {.size = sizeof result};
    CHECK(kvick_stream_result(stream, &result) == KVICK_OK && result.size == sizeof result);
    CHECK(result.text_len == bytes && memcmp(result.text, all, bytes + 1) == 0);
    CHECK(result.ids_len == 8 && result.prompt_tokens > 0 && result.finish_reason == KVICK_FINISH_LENGTH);
    result.size = 3;
    FAILS(KVICK_ERROR_ARGUMENT, "sizeof(kvick_result)", kvick_stream_result(stream, &result));
    FAILS(KVICK_ERROR_ARGUMENT, "kvick_result is NULL", kvick_stream_result(stream, NULL));

    /* The same ids give the same answer as the text that they are of. */
    uint32_t ids[16];
    size_t count;
    FAILS(KVICK_ERROR_ARGUMENT, "ids is NULL", kvick_tokenize(engine, "abc", 0, NULL, 1, &count));
    FAILS(KVICK_ERROR_ARGUMENT, "flags 0x2", kvick_tokenize(engine, "abc", KVICK_IGNORE_EOS, ids, 16, &count));
    FAILS(KVICK_ERROR_ARGUMENT, "place for the length", kvick_tokenize(engine, "abc", 0, ids, 16, NULL));
    ids[1] = 77;
    CHECK(kvick_tokenize(engine, "abc", 0, ids, 1, &count) == KVICK_OK && count > 1 && count <= 16 && ids[1] == 77);
    size_t needed;
    CHECK(kvick_tokenize(engine, "abc", 0, NULL, 0, &needed) == KVICK_OK && needed == count);
    CHECK(kvick_tokenize(engine, "abc", 0, ids, 16, &count) == KVICK_OK && ids[1] != 77);
    request = request_of(NULL);
    request.ids = ids;
    request.ids_len = count;
    kvick_stream *again;
    CHECK(kvick_submit(engine, &request, &again) == KVICK_OK);
    while (kvick_stream_next(again, -1, &text, NULL) == KVICK_OK)
        ;
    kvick_result other = {.size = sizeof other};
    CHECK(kvick_stream_result(again, &other) == KVICK_OK && other.prompt_tokens == count);
    result.size = sizeof result;
    CHECK(kvick_stream_result(stream, &result) == KVICK_OK);
    CHECK(other.ids_len == 8 && memcmp(other.ids, result.ids, 8 * sizeof *ids) == 0);
    kvick_stream_free(again);
    kvick_stream_free(stream);
}

/* Tokens of a tenant's prompt that were found. */
static uint64_t found(kvick_engine *engine, const char *salt) {
    kvick_request request = request_of("a prompt of a tenant of its own");
    request.salt = salt;
    request.priority = 1;
    kvick_stream *stream;
    const char *text;
    CHECK(kvick_submit(engine, &request, &stream) == KVICK_OK);
    while (kvick_stream_next(stream, -1, &text, NULL) == KVICK_OK)
        ;
    kvick_result result = {.size = sizeof result};
    CHECK(kvick_stream_result(stream, &result) == KVICK_OK && result.cached_tokens < result.prompt_tokens);
    uint64_t tokens = result.cached_tokens;
    kvick_stream_free(stream);
    return tokens;
}

static void tenants(kvick_engine *engine) {
    FAILS(KVICK_ERROR_ARGUMENT, "the engine is NULL", kvick_engine_invalidate(NULL, NULL));
    FAILS(KVICK_ERROR_ARGUMENT, "salt is not UTF-8", kvick_engine_invalidate(engine, "\xff"));
    CHECK(found(engine, "one") == 0 && found(engine, "one") > 0 && found(engine, "two") == 0);
    CHECK(kvick_engine_invalidate(engine, "one") == KVICK_OK);
    CHECK(found(engine, "one") == 0 && found(engine, "two") > 0);
    found(engine, NULL);
    CHECK(kvick_engine_invalidate(engine, NULL) == KVICK_OK);
    CHECK(found(engine, "one") == 0 && found(engine, "two") == 0 && found(engine, NULL) == 0);
}

/* More than the engine gets done while this program does its next few calls. */
#define BUSY 64

static void occupy(kvick_engine *engine, kvick_stream *streams[BUSY]) {
    kvick_request request = request_of("abc");
    request.max_tokens = 200;
    for (int i = 0; i < BUSY; i++)
        CHECK(kvick_submit(engine, &request, &streams[i]) == KVICK_OK);
}

static void release(kvick_stream *streams[BUSY]) {
    for (int i = 0; i < BUSY; i++)
        kvick_stream_free(streams[i]);
}

static void *wait_for_end(void *stream) {
    const char *text;
    kvick_status status;
    while ((status = kvick_stream_next(stream, -1, &text, NULL)) == KVICK_OK)
        ;
    return status == KVICK_END ? stream : NULL;
}

static void *ask(void *engine) {
    kvick_request request = request_of("xyz");
    kvick_stream *stream;
    CHECK(kvick_submit(engine, &request, &stream) == KVICK_OK);
    CHECK(wait_for_end(stream));
    kvick_result result = {.size = sizeof result};
    CHECK(kvick_stream_result(stream, &result) == KVICK_OK);
    uint32_t *ids = malloc(8 * sizeof *ids);
    CHECK(ids && result.ids_len == 8);
    memcpy(ids, result.ids, 8 * sizeof *ids);
    kvick_stream_free(stream);
    return ids;
}

static void threads(kvick_engine *engine) {
    pthread_t asking[4];
    void *ids[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&asking[i], NULL, ask, engine) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(asking[i], &ids[i]) == 0);
    for (int i = 0; i < 4; i++) {
        CHECK(memcmp(ids[0], ids[i], 8 * sizeof(uint32_t)) == 0);
        if (i)
            free(ids[i]);
    }
    free(ids[0]);

    /* Cancelled by one thread while another waits. */
    kvick_stream *streams[BUSY];
    occupy(engine, streams);
    kvick_stream *last = streams[BUSY - 1];
    pthread_t waiting;
    void *ended;
    CHECK(pthread_create(&waiting, NULL, wait_for_end, last) == 0);
    kvick_stream_cancel(last);
    CHECK(pthread_join(waiting, &ended) == 0 && ended == last);
    kvick_result result = {.size = sizeof result};
    CHECK(kvick_stream_result(last, &result) == KVICK_OK && result.finish_reason == KVICK_FINISH_CANCELLED);
    release(streams);
}

/* Streams may outlive their engine, and then end with an error. */
static void outliving(kvick_engine *engine) {
    kvick_stream *streams[BUSY];
    occupy(engine, streams);
    kvick_stream *last = streams[BUSY - 1];
    kvick_engine_free(engine);
    kvick_result result = {.size = sizeof result};
    CHECK(kvick_stream_result(last, &result) == KVICK_PENDING);
    const char *text;
    while (kvick_stream_next(last, -1, &text, NULL) == KVICK_OK)
        ;
    FAILS(KVICK_ERROR_DEVICE, "the engine has ended", kvick_stream_next(last, -1, &text, NULL));
    release(streams);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    model = argv[1];
    CHECK(strcmp(kvick_version(), KVICK_VERSION) == 0 && strcmp(kvick_last_error(), "") == 0);
    opening();
    kvick_config config = config_of();
    kvick_engine *engine;
    CHECK(kvick_engine_open(&config, &engine) == KVICK_OK);
    CHECK(strlen(kvick_engine_device(engine)) > 0 && kvick_engine_notice(engine) == NULL);
    CHECK(kvick_engine_device(NULL) == NULL && kvick_engine_notice(NULL) == NULL);
    requests(engine);
    streams(engine);
    tenants(engine);
    threads(engine);
    outliving(engine);
    kvick_stream_free(NULL);
    kvick_stream_cancel(NULL);
    kvick_engine_free(NULL);
    return 0;
}
