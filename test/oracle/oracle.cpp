// oracle runs a GGUF file through an independent engine (the prebuilt llama.cpp libraries of the npm package node-llama-cpp) and prints what this project's engine is compared with: tokens, logits, greedy ids
// and user CPU time. Settings that make the comparison exact: key/value cache in f32, flash attention off, no offload.
#include "ggml-backend.h"
#include "llama.h"

#include <sys/resource.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace {

using Ids = std::vector<llama_token>;

[[noreturn]] void fail(const std::string & why) {
    fprintf(stderr, "oracle: %s\n", why.c_str());
    exit(1);
}

double user_cpu() {
    rusage u;
    getrusage(RUSAGE_SELF, &u);
    return double(u.ru_utime.tv_sec) + 1e-6 * double(u.ru_utime.tv_usec);
}

double wall() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

struct Options {
    std::map<std::string, std::string> set;

    Options(int argc, char ** argv) {
        for (int i = 3; i < argc; i += 2) {
            if (strncmp(argv[i], "--", 2) != 0 || i + 1 >= argc) fail(std::string("option without value: ") + argv[i]);
            set[argv[i] + 2] = argv[i + 1];
        }
    }
    std::string str(const char * name, const char * other) const {
        auto i = set.find(name);
        return i == set.end() ? other : i->second;
    }
    int num(const char * name, int other) const { return atoi(str(name, std::to_string(other).c_str()).c_str()); }
    Ids ids() const {
        Ids out;
        const std::string text = str("ids", "");
        for (const char * p = text.c_str(); *p;) {
            char * end;
            out.push_back(llama_token(strtol(p, &end, 10)));
            if (end == p) fail("--ids takes numbers with commas between them");
            p = *end == ',' ? end + 1 : end;
        }
        if (out.empty()) fail("--ids is missing");
        return out;
    }
};

llama_model * load(const char * path, bool vocab_only) {
    llama_model_params p = llama_model_default_params();
    p.n_gpu_layers = 0;
    p.vocab_only = vocab_only;
    llama_model * m = llama_model_load_from_file(path, p);
    if (!m) fail(std::string("cannot load ") + path);
    return m;
}

llama_context * context(llama_model * m, const Options & o, int n, int seqs) {
    llama_context_params p = llama_context_default_params();
    p.n_ctx = uint32_t(n);
    p.n_batch = p.n_ubatch = 512;
    p.n_seq_max = uint32_t(seqs);
    p.kv_unified = true;
    p.n_threads = p.n_threads_batch = o.num("threads", 1);
    const bool f16 = o.str("kv", "f32") == "f16";
    p.type_k = p.type_v = f16 ? GGML_TYPE_F16 : GGML_TYPE_F32;
    p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    p.offload_kqv = p.op_offload = false;
    llama_context * c = llama_init_from_model(m, p);
    if (!c) fail("cannot make a context");
    return c;
}

// decode runs tokens that follow each other, or one token of each sequence, and asks for the logits of all of them or of the last.
void decode(llama_context * c, const Ids & ids, int pos, bool all, bool per_sequence) {
    llama_batch b = llama_batch_init(int(ids.size()), 0, 1);
    b.n_tokens = int(ids.size());
    for (int i = 0; i < b.n_tokens; i++) {
        b.token[i] = ids[size_t(i)];
        b.pos[i] = per_sequence ? pos : pos + i;
        b.n_seq_id[i] = 1;
        b.seq_id[i][0] = per_sequence ? i : 0;
        b.logits[i] = all || per_sequence || i + 1 == b.n_tokens;
    }
    if (llama_decode(c, b) != 0) fail("decoding failed");
    llama_batch_free(b);
}

llama_token best(const float * l, int n) {
    int k = 0;
    for (int i = 1; i < n; i++)
        if (l[i] > l[k]) k = i;
    return k;
}

// logits: the logits after every given id as raw little-endian float32 [ids][vocab] in --out, and --greedy ids that follow, as JSON.
void logits(llama_model * m, const Options & o) {
    const Ids ids = o.ids();
    const int greedy = o.num("greedy", 0), vocab = llama_vocab_n_tokens(llama_model_get_vocab(m));
    llama_context * c = context(m, o, int(ids.size()) + greedy + 1, 1);
    if (ids.size() > 512) fail("at most 512 ids");
    decode(c, ids, 0, true, false);
    const std::string out = o.str("out", "");
    if (!out.empty()) {
        FILE * f = fopen(out.c_str(), "wb");
        if (!f) fail("cannot write " + out);
        for (size_t i = 0; i < ids.size(); i++) fwrite(llama_get_logits_ith(c, int(i)), 4, size_t(vocab), f);
        fclose(f);
    }
    llama_token next = best(llama_get_logits_ith(c, int(ids.size()) - 1), vocab);
    printf("{\"vocab\":%d,\"positions\":%zu,\"greedy\":[", vocab, ids.size());
    for (int i = 0; i < greedy; i++) {
        printf(i ? ",%d" : "%d", next);
        decode(c, {next}, int(ids.size()) + i, false, false);
        next = best(llama_get_logits_ith(c, 0), vocab);
    }
    printf("]}\n");
    llama_free(c);
}

// bench: user CPU and wall milliseconds a token, for a prompt and for decoding one token of each of --seqs sequences after it. The least of --repeat runs counts.
void bench(llama_model * m, const Options & o) {
    const int prompt = o.num("prompt", 128), steps = o.num("decode", 32), seqs = o.num("seqs", 1), repeat = o.num("repeat", 3);
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(m));
    double best_p = 1e30, best_pw = 1e30, best_d = 1e30, best_dw = 1e30;
    for (int r = 0; r < repeat; r++) {
        llama_context * c = context(m, o, (prompt + steps + 8) * seqs, seqs);
        Ids ids;
        for (int i = 0; i < prompt; i++) ids.push_back((i * 7919 + 13) % vocab);
        double u = user_cpu(), w = wall();
        decode(c, ids, 0, false, false);
        llama_get_logits_ith(c, -1);
        best_p = std::min(best_p, (user_cpu() - u) / prompt);
        best_pw = std::min(best_pw, (wall() - w) / prompt);
        for (int s = 1; s < seqs; s++) llama_memory_seq_cp(llama_get_memory(c), 0, s, -1, -1);
        u = user_cpu(), w = wall();
        for (int i = 0; i < steps; i++) {
            Ids one;
            for (int s = 0; s < seqs; s++) one.push_back((i * 31 + s * 17) % vocab);
            decode(c, one, prompt + i, false, true);
            llama_get_logits_ith(c, -1);
        }
        best_d = std::min(best_d, (user_cpu() - u) / (steps * seqs));
        best_dw = std::min(best_dw, (wall() - w) / (steps * seqs));
        llama_free(c);
    }
    printf("{\"prefill_user_ms\":%.4f,\"prefill_wall_ms\":%.4f,\"decode_user_ms\":%.4f,\"decode_wall_ms\":%.4f,\"prompt\":%d,\"decode\":%d,\"seqs\":%d}\n", best_p * 1e3, best_pw * 1e3, best_d * 1e3,
           best_dw * 1e3, prompt, steps, seqs);
}

// tokenize: each line of standard input (\n, \t, \r and \\ written so) becomes one JSON list of ids. --special 1 adds BOS/EOS as the file says, --parse 1 reads control tokens in the text.
void tokenize(llama_model * m, const Options & o) {
    const llama_vocab * v = llama_model_get_vocab(m);
    std::string line, text;
    while (std::getline(std::cin, line)) {
        text.clear();
        for (size_t i = 0; i < line.size(); i++) {
            if (line[i] != '\\' || i + 1 == line.size()) {
                text += line[i];
                continue;
            }
            const char e = line[++i];
            text += e == 'n' ? '\n' : e == 't' ? '\t' : e == 'r' ? '\r' : e;
        }
        Ids ids(text.size() + 16);
        const int n = llama_tokenize(v, text.data(), int(text.size()), ids.data(), int(ids.size()), o.num("special", 0) != 0, o.num("parse", 0) != 0);
        if (n < 0) fail("the text does not fit");
        printf("[");
        for (int i = 0; i < n; i++) printf(i ? ",%d" : "%d", ids[size_t(i)]);
        printf("]\n");
    }
}

void quiet(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

}  // namespace

int main(int argc, char ** argv) {
    if (argc < 3) {
        fprintf(stderr,
                "usage: oracle logits MODEL --ids 1,2,3 [--greedy N] [--out FILE]\n"
                "       oracle bench MODEL [--prompt 128] [--decode 32] [--seqs 1] [--repeat 3]\n"
                "       oracle tokenize MODEL [--special 1] [--parse 1] < lines\n"
                "common options: [--threads 1] [--kv f32|f16]\n");
        return 2;
    }
    llama_log_set(quiet, nullptr);
    ggml_backend_load_all_from_path(getenv("ORACLE_LIB") ? getenv("ORACLE_LIB") : ORACLE_LIB);
    llama_backend_init();
    const std::string verb = argv[1];
    const Options o(argc, argv);
    llama_model * m = load(argv[2], verb == "tokenize");
    if (verb == "logits") logits(m, o);
    else if (verb == "bench") bench(m, o);
    else if (verb == "tokenize") tokenize(m, o);
    else fail("unknown verb " + verb);
    llama_model_free(m);
    return 0;
}
