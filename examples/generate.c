/*
 * Continues a text, printing it as it comes:
 *
 *     cargo build --release --package kvick-c
 *     cc -std=c99 -Iinclude examples/generate.c -Ltarget/release -Wl,-rpath,$PWD/target/release -lkvick_c -o generate
 *     ./generate "The capital of France is" [MODEL [DEVICE]]
 */
#include "kvick.h"

#include <stdio.h>

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, kvick_last_error());
    return 1;
}

int main(int argc, char **argv) {
    const char *prompt = argc > 1 ? argv[1] : "The capital of France is";
    kvick_config config = {.size = sizeof config};
    config.model = argc > 2 ? argv[2] : NULL;
    config.device = argc > 3 ? argv[3] : NULL;
    kvick_engine *engine;
    if (kvick_engine_open(&config, &engine) < 0)
        return fail("cannot load the model");
    if (kvick_engine_notice(engine))
        fprintf(stderr, "%s\n", kvick_engine_notice(engine));

    kvick_request request = {.size = sizeof request, .text = prompt, .max_tokens = 16};
    kvick_stream *stream;
    if (kvick_submit(engine, &request, &stream) < 0) {
        kvick_engine_free(engine);
        return fail("cannot generate");
    }
    fputs(prompt, stdout);
    const char *text;
    size_t len;
    kvick_status status;
    while ((status = kvick_stream_next(stream, -1, &text, &len)) == KVICK_OK) {
        fwrite(text, 1, len, stdout);
        fflush(stdout);
    }
    putchar('\n');
    kvick_result result = {.size = sizeof result};
    if (status == KVICK_END && kvick_stream_result(stream, &result) == KVICK_OK)
        fprintf(stderr, "%zu tokens, %s\n", result.ids_len, kvick_engine_device(engine));
    int code = status < 0 ? fail("generation failed") : 0;
    kvick_stream_free(stream);
    kvick_engine_free(engine);
    return code;
}
