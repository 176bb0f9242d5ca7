// Batch norm with what surrounds it, y = act((x - mean) * invstd * weight + bias + residual), and its gradient, where
// act is nothing, ReLU or, without a residual, hardswish; over channels-last memory: element e belongs to channel
// e % channels. Activations are float or bfloat16 (as 16 bits); statistics, parameters and their gradients are float.
//
// Memory is walked in chunks, which depend on the shape alone. Sums are float within a chunk and double across the
// chunks, in their order, so the result has the same bits at any number of threads.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "error: a bfloat16 in an even place must be the lower half of its word"
#endif

#include "bf16.h"
#include "threads.h"

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
using Mask = uint16_t;
#else
constexpr int LANES = 8;
using Mask = uint8_t;
#endif
constexpr int STEP = 2 * LANES;  // elements that are worked on together
typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));

enum Act { NONE, RELU, HARDSWISH };  // as `norm.py` numbers them

constexpr int64_t STRIP = 128;         // elements whose parameters and sums stay in registers
constexpr int64_t BLOCK = 1 << 14;     // elements that all strips of a wide tile go over before the next block
constexpr int64_t CHUNKS = 64;         // aimed at, so that threads have equal shares
constexpr int64_t CHUNK_LEAST = 1 << 14, CHUNK_MOST = 1 << 18;  // bytes; the second level cache holds several
constexpr int64_t CHUNK_PIXELS = 32;   // at least, so that sums are small beside what they are of
constexpr int64_t ALONE = 1 << 15;     // elements up to which one thread is quicker than several
constexpr int64_t GUESS = 8;           // pixels, spread over the batch, whose mean is taken off before squaring

// ---- two vectors ----------------------------------------------------------------------------------------------
//
// A step of bfloat16 is split into the elements in even places and those in odd places, which are the two halves of
// its 32-bit words. Everything that goes with them (parameters, sums, masks) is kept in that order; see `place`.

struct Pair {
    Vec a, b;
    INLINE Pair operator+(Pair o) const { return {a + o.a, b + o.b}; }
    INLINE Pair operator-(Pair o) const { return {a - o.a, b - o.b}; }
    INLINE Pair operator*(Pair o) const { return {a * o.a, b * o.b}; }
};
struct Masks {
    Mask a, b;
};

template <class T> int64_t place(int64_t i) {
    if constexpr (std::is_same_v<T, float>) return i;
    return i / STEP * STEP + i % 2 * LANES + i % STEP / 2;
}

INLINE Pair load(const float* p) {
    Pair v;
    std::memcpy(&v.a, p, sizeof v.a);
    std::memcpy(&v.b, p + LANES, sizeof v.b);
    return v;
}
INLINE Pair load(const bf16* p) {
    Words w;
    std::memcpy(&w, p, sizeof w);
    return {(Vec)(w << 16), (Vec)(w & 0xffff0000)};
}

INLINE void store(float* p, Pair v) {
    std::memcpy(p, &v.a, sizeof v.a);
    std::memcpy(p + LANES, &v.b, sizeof v.b);
}
#if !defined(__AVX512BF16__)
INLINE Words rounded(Vec v) {  // to the upper half, to the nearest, ties to even; NaN stays NaN
    Words w = (Words)v;
    return v == v ? w + 0x7fff + ((w >> 16) & 1) : Words{} + 0x7fc00000;
}
#endif
INLINE void store(bf16* p, Pair v) {
#if defined(__AVX512BF16__)
    alignas(64) static constexpr uint16_t zipped[] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8,  24, 9,  25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)v.b, (__m512)v.a);
    __m512i words = _mm512_permutexvar_epi16(_mm512_load_si512(zipped), halves);
#else
    Words words = (rounded(v.a) >> 16) | (rounded(v.b) & 0xffff0000);
#endif
    std::memcpy(p, &words, sizeof words);
}

// Past the caches, where a store of the whole step can; p is a multiple of 64 bytes.
INLINE void store_far(float* p, Pair v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(p, (__m512)v.a), _mm512_stream_ps(p + LANES, (__m512)v.b);
#else
    store(p, v);
#endif
}
INLINE void store_far(bf16* p, Pair v) {
#if defined(__AVX512F__)
    bf16 whole[STEP];
    store(whole, v);
    _mm512_stream_si512((__m512i*)p, _mm512_loadu_si512(whole));
#else
    store(p, v);
#endif
}
INLINE bool can_go_far(const void* p) { return (uintptr_t)p % 64 == 0; }
INLINE void wait_for_far() {  // before other threads read what went past the caches
#if defined(__AVX512F__)
    _mm_sfence();
#endif
}

INLINE Mask above_zero(Vec v) {  // NaN counts as above, as it does in torch's ReLU
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NLE_UQ);
#elif defined(__AVX2__)
    return (Mask)_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NLE_UQ));
#else
    Mask mask = 0;
    for (int i = 0; i < LANES; ++i) mask |= (Mask)(!(v[i] <= 0)) << i;
    return mask;
#endif
}
INLINE Vec keep(Vec v, Mask mask) {  // zero where the mask is 0
#if defined(__AVX512F__)
    return (Vec)_mm512_maskz_mov_ps(mask, (__m512)v);
#else
    const Ints bit = {1, 2, 4, 8, 16, 32, 64, 128};
    return (Vec)((Ints)v & (((Ints{} + mask) & bit) != 0));
#endif
}
INLINE Vec hardswish(Vec v) {  // Howard et al. 2019; NaN stays NaN
    Vec share = v * (1.0f / 6) + 0.5f;
    share = share < 0 ? Vec{} : share;
    return v * (share > 1 ? Vec{} + 1 : share);
}
INLINE Vec hardswish_slope(Vec inner) {  // inner: v / 3 + 1/2, which it is between -3 and 3
    inner = inner <= -0.5f ? Vec{} : inner;
    return inner >= 1.5f ? Vec{} + 1 : inner;
}
INLINE Pair hardswish(Pair v) { return {hardswish(v.a), hardswish(v.b)}; }
INLINE Pair hardswish_slope(Pair v) { return {hardswish_slope(v.a), hardswish_slope(v.b)}; }
INLINE Masks above_zero(Pair v) { return {above_zero(v.a), above_zero(v.b)}; }
INLINE Pair keep(Pair v, Masks masks) { return {keep(v.a, masks.a), keep(v.b, masks.b)}; }

// A whole step, or the first `count` elements of the tensor's very last one.
struct Whole {
    template <class T> INLINE Pair get(const T* p) const { return load(p); }
    template <class T> INLINE void put(T* p, Pair v, bool far = false) const { far ? store_far(p, v) : store(p, v); }
    template <class T> INLINE Pair only(Pair v) const { return v; }
};
struct Part {
    int64_t count;
    template <class T> Pair get(const T* p) const {
        T whole[STEP] = {};
        std::memcpy(whole, p, count * sizeof(T));
        return load(whole);
    }
    template <class T> void put(T* p, Pair v, bool = false) const {
        T whole[STEP];
        store(whole, v);
        std::memcpy(p, whole, count * sizeof(T));
    }
    template <class T> Pair only(Pair v) const {
        float values[STEP];
        store(values, v);
        for (int64_t i = count; i < STEP; ++i) values[place<T>(i)] = 0;
        return load(values);
    }
};

// ---- the walk over memory ----------------------------------------------------------------------------------------

// A tile is a whole number of pixels and of strips; so channels of any number need no case of their own.
struct Walk {
    int64_t elements, channels, tile, chunk, chunks;
    int threads;
    bool streams;

    Walk(int64_t elements, int64_t channels, int64_t size, int threads)
        : elements(elements), channels(channels), tile(std::lcm(channels, STRIP)),
          threads(elements <= ALONE ? 1 : threads), streams(elements * size > STREAM) {
        const int64_t aim = elements * size / CHUNKS;
        const int64_t bytes = aim < CHUNK_LEAST ? CHUNK_LEAST : aim > CHUNK_MOST ? CHUNK_MOST : aim;
        const int64_t least = CHUNK_PIXELS * channels, wanted = bytes / size > least ? bytes / size : least;
        chunk = (wanted + tile - 1) / tile * tile;
        chunks = (elements + chunk - 1) / chunk;
    }

    // For every step of a chunk: work(state, element, Whole or Part), where the state is what begin(place in the tile)
    // gave and finish(place, state) takes back. A strip goes down all rows of tiles of a block, or of the chunk if it
    // is the tile; ahead(element) asks for the next block meanwhile. With `in_order` a block is one row: memory that is
    // written to is best gone through in its order.
    template <class Begin, class Work, class Finish, class Ahead>
    INLINE void operator()(int64_t index, bool in_order, const Begin& begin, const Work& work, const Finish& finish,
                           const Ahead& ahead) const {
        constexpr int N = STRIP / STEP;
        const bool narrow = tile == STRIP;
        const int64_t end = (index + 1) * chunk < elements ? (index + 1) * chunk : elements;
        const int64_t block = narrow ? chunk : in_order || tile > BLOCK ? tile : BLOCK / tile * tile;
        int64_t e = index * chunk;
        while (e + tile <= end) {
            const int64_t stop = e + block < end ? e + block : e + (end - e) / tile * tile;
            int64_t next = stop;
            for (int64_t v = 0; v < tile; v += STRIP) {
                decltype(begin(0)) states[N];
                for (int i = 0; i < N; ++i) states[i] = begin(v + i * STEP);
                for (int64_t at = e + v; at < stop; at += tile) {
                    if (!narrow)
                        for (int i = 0; i < N; ++i, next += STEP) ahead(next);
                    for (int i = 0; i < N; ++i) work(states[i], at + i * STEP, Whole{});
                }
                for (int i = 0; i < N; ++i) finish(v + i * STEP, states[i]);
            }
            e = stop;
        }
        for (int64_t v = 0; e + v < end; v += STEP) {
            auto state = begin(v);
            if (e + v + STEP <= end)
                work(state, e + v, Whole{});
            else
                work(state, e + v, Part{end - e - v});
            finish(v, state);
        }
    }
};

// A value a channel, repeated over a tile, in the order of a step of T.
template <class T> struct Tiled : std::vector<float> {
    Tiled(const Walk& walk, const float* channel) : std::vector<float>(walk.tile) {
        for (int64_t i = 0, c = 0; i < walk.tile; ++i, c = c + 1 < walk.channels ? c + 1 : 0)
            (*this)[place<T>(i)] = channel[c];
    }
};

// Two sums a channel over all elements; chunk_sums(index, a, b) adds those of a chunk to two zeroed tiles.
template <class T, class F> void sums(const Walk& walk, double* a, double* b, const F& chunk_sums) {
    const int64_t both = 2 * walk.tile;
    std::vector<float> parts(walk.chunks * both);
    share(walk.threads, walk.chunks, [&](int64_t first, int64_t end) {
        for (int64_t index = end - 1; index >= first; --index)  // what was written last is still near
            chunk_sums(index, &parts[index * both], &parts[index * both + walk.tile]);
    });
    std::vector<double> totals(both);
    share(walk.chunks * both > ALONE ? walk.threads : 1, both, [&](int64_t first, int64_t end) {
        for (int64_t index = 0; index < walk.chunks; ++index)
            for (int64_t i = first; i < end; ++i) totals[i] += parts[index * both + i];
    });
    std::fill(a, a + walk.channels, 0.0);
    std::fill(b, b + walk.channels, 0.0);
    for (int64_t i = 0, c = 0; i < walk.tile; ++i, c = c + 1 < walk.channels ? c + 1 : 0) {
        a[c] += totals[place<T>(i)];
        b[c] += totals[walk.tile + place<T>(i)];
    }
}

// ---- forward -------------------------------------------------------------------------------------------------------

// Mean and biased variance of each channel.
template <class T> void statistics(const Walk& walk, const T* x, double* mean, double* variance) {
    const int64_t channels = walk.channels, pixels = walk.elements / channels;
    std::vector<float> guess(channels);
    for (int64_t k = 0; k < GUESS; ++k) {
        const T* pixel = x + pixels * k / GUESS * channels;
        for (int64_t c = 0; c < channels; ++c) guess[c] += as_float(pixel[c]) * (1.0f / GUESS);
    }
    const Tiled<T> shifts(walk, guess.data());
    struct State {
        Pair sum, squares, shift;
    };
    sums<T>(walk, mean, variance, [&](int64_t index, float* a, float* b) {
        walk(
            index, false, [&](int64_t v) { return State{load(a + v), load(b + v), load(&shifts[v])}; },
            [&](State& state, int64_t e, auto lanes) {
                const Pair off = lanes.template only<T>(lanes.get(x + e) - state.shift);
                state.sum = state.sum + off;
                state.squares = state.squares + off * off;
            },
            [&](int64_t v, const State& state) { store(a + v, state.sum), store(b + v, state.squares); },
            [&](int64_t e) { __builtin_prefetch(x + e, 0, 2); });
    });
    for (int64_t c = 0; c < channels; ++c) {
        const double off = mean[c] / pixels, spread = variance[c] / pixels - off * off;
        mean[c] = guess[c] + off;
        variance[c] = spread < 0 ? 0 : spread;
    }
}

template <class T, Act ACT, bool RESIDUAL>
void apply(const Walk& walk, const T* x, const T* residual, T* y, Masks* masks, const float* mean, const float* scale,
           const float* bias) {
    const Tiled<T> means(walk, mean), scales(walk, scale), biases(walk, bias);
    struct State {
        Pair mean, scale, bias;
    };
    const bool far = walk.streams && can_go_far(y);
    share(walk.threads, walk.chunks, [&](int64_t first, int64_t end) {
        for (int64_t index = first; index < end; ++index)
            walk(
                index, walk.streams,
                [&](int64_t v) { return State{load(&means[v]), load(&scales[v]), load(&biases[v])}; },
                [&](State& state, int64_t e, auto lanes) {
                    Pair out = (lanes.get(x + e) - state.mean) * state.scale + state.bias;
                    if constexpr (RESIDUAL) out = out + lanes.get(residual + e);
                    if constexpr (ACT == HARDSWISH) out = hardswish(out);
                    if constexpr (ACT == RELU) {
                        const Masks above = above_zero(out);
                        if (masks) masks[e / STEP] = above;
                        out = keep(out, above);
                    }
                    lanes.put(y + e, out, far);
                },
                [](int64_t, const State&) {},
                [&](int64_t e) {
                    __builtin_prefetch(x + e, 0, 2);
                    if constexpr (RESIDUAL) __builtin_prefetch(residual + e, 0, 2);
                });
        wait_for_far();
    });
}

template <class T>
void forward(const T* x, const T* residual, T* y, Masks* masks, const float* weight, const float* bias,
             float* running_mean, float* running_var, float* saved_mean, float* saved_invstd, const Walk& walk,
             bool batch_statistics, Act act, double momentum, double eps) {
    const int64_t channels = walk.channels;
    if (batch_statistics) {
        const double pixels = (double)(walk.elements / channels), unbiased = pixels / (pixels - 1);
        std::vector<double> mean(channels), variance(channels);
        statistics(walk, x, mean.data(), variance.data());
        for (int64_t c = 0; c < channels; ++c) {
            saved_mean[c] = (float)mean[c];
            saved_invstd[c] = (float)(1 / std::sqrt(variance[c] + eps));
            if (!running_mean) continue;
            running_mean[c] = (float)(momentum * mean[c] + (1 - momentum) * running_mean[c]);
            running_var[c] = (float)(momentum * variance[c] * unbiased + (1 - momentum) * running_var[c]);
        }
    } else {
        for (int64_t c = 0; c < channels; ++c) {
            saved_mean[c] = running_mean[c];
            saved_invstd[c] = (float)(1 / std::sqrt(running_var[c] + eps));
        }
    }
    std::vector<float> scale(channels);
    for (int64_t c = 0; c < channels; ++c) scale[c] = saved_invstd[c] * weight[c];
    auto run = act == HARDSWISH ? apply<T, HARDSWISH, false>
               : act == RELU    ? (residual ? apply<T, RELU, true> : apply<T, RELU, false>)
                                : (residual ? apply<T, NONE, true> : apply<T, NONE, false>);
    run(walk, x, residual, y, masks, saved_mean, scale.data(), bias);
}

// ---- backward ------------------------------------------------------------------------------------------------------

// The gradient behind the activation: of an element of x that is `off` its mean. inner: what `hardswish_slope` takes,
// as a scale and a bias of `off`.
template <Act ACT, class State>
INLINE Pair through(Pair g, Pair off, const Masks* masks, int64_t e, const State& state) {
    if constexpr (ACT == RELU) return keep(g, masks[e / STEP]);
    if constexpr (ACT == HARDSWISH) return g * hardswish_slope(off * state.inner_scale + state.inner_bias);
    return g;
}

// The sums of the gradient, and of its product with x - mean.
template <class T, Act ACT>
void gradient_sums(const Walk& walk, const T* grad, const T* x, const Masks* masks, const float* mean,
                   const float* inner_scale, const float* inner_bias, double* plain, double* product) {
    const Tiled<T> means(walk, mean), inner_scales(walk, inner_scale), inner_biases(walk, inner_bias);
    struct State {
        Pair sum, product, mean, inner_scale, inner_bias;
    };
    sums<T>(walk, plain, product, [&](int64_t index, float* a, float* b) {
        walk(
            index, false,
            [&](int64_t v) {
                return State{load(a + v), load(b + v), load(&means[v]), load(&inner_scales[v]), load(&inner_biases[v])};
            },
            [&](State& state, int64_t e, auto lanes) {
                const Pair off = lanes.get(x + e) - state.mean;
                const Pair g = through<ACT>(lanes.get(grad + e), off, masks, e, state);
                state.sum = state.sum + g;
                state.product = state.product + g * off;
            },
            [&](int64_t v, const State& state) { store(a + v, state.sum), store(b + v, state.product); },
            [&](int64_t e) {
                __builtin_prefetch(x + e, 0, 2);
                __builtin_prefetch(grad + e, 0, 2);
            });
    });
}

template <class T, Act ACT, bool RESIDUAL>
void gradients(const Walk& walk, const T* grad, const T* x, const Masks* masks, T* to_x, T* to_residual,
               const float* mean, const float* inner_scale, const float* inner_bias, const float* by_grad,
               const float* by_x, const float* constant) {
    const Tiled<T> means(walk, mean), inner_scales(walk, inner_scale), inner_biases(walk, inner_bias);
    const Tiled<T> by_grads(walk, by_grad), by_xs(walk, by_x), constants(walk, constant);
    struct State {
        Pair mean, inner_scale, inner_bias, by_grad, by_x, constant;
    };
    const bool far = walk.streams && can_go_far(to_x);
    share(walk.threads, walk.chunks, [&](int64_t first, int64_t end) {
        for (int64_t index = first; index < end; ++index)
            walk(
                index, walk.streams,
                [&](int64_t v) {
                    return State{load(&means[v]),    load(&inner_scales[v]), load(&inner_biases[v]),
                                 load(&by_grads[v]), load(&by_xs[v]),        load(&constants[v])};
                },
                [&](State& state, int64_t e, auto lanes) {
                    const Pair off = lanes.get(x + e) - state.mean;
                    const Pair g = through<ACT>(lanes.get(grad + e), off, masks, e, state);
                    if constexpr (RESIDUAL) lanes.put(to_residual + e, g);
                    lanes.put(to_x + e, g * state.by_grad + (off * state.by_x + state.constant), far);
                },
                [](int64_t, const State&) {},
                [&](int64_t e) {
                    __builtin_prefetch(x + e, 0, 2);
                    __builtin_prefetch(grad + e, 0, 2);
                });
        wait_for_far();
    });
}

template <class T>
void backward(const T* grad, const T* x, const Masks* masks, const float* weight, const float* bias, const float* mean,
              const float* invstd, T* to_x, T* to_residual, float* to_weight, float* to_bias, const Walk& walk,
              bool batch_statistics, Act act) {
    const int64_t channels = walk.channels, pixels = walk.elements / channels;
    std::vector<float> inner_scale(channels), inner_bias(channels), by_grad(channels), by_x(channels),
        constant(channels);
    for (int64_t c = 0; c < channels; ++c) {
        inner_scale[c] = invstd[c] * weight[c] / 3;
        inner_bias[c] = bias[c] / 3 + 0.5f;
    }
    std::vector<double> plain(channels), product(channels);
    auto add_up = act == HARDSWISH ? gradient_sums<T, HARDSWISH>
                  : act == RELU    ? gradient_sums<T, RELU>
                                   : gradient_sums<T, NONE>;
    add_up(walk, grad, x, masks, mean, inner_scale.data(), inner_bias.data(), plain.data(), product.data());
    for (int64_t c = 0; c < channels; ++c) {
        const double scale = (double)weight[c] * invstd[c], by_invstd = product[c] * invstd[c];
        to_weight[c] = (float)by_invstd;
        to_bias[c] = (float)plain[c];
        by_grad[c] = (float)scale;
        if (!batch_statistics) continue;
        by_x[c] = (float)(-scale * invstd[c] * by_invstd / pixels);
        constant[c] = (float)(-scale * plain[c] / pixels);
    }
    auto run = act == HARDSWISH ? gradients<T, HARDSWISH, false>
               : act == RELU    ? (to_residual ? gradients<T, RELU, true> : gradients<T, RELU, false>)
                                : gradients<T, NONE, false>;
    run(walk, grad, x, masks, to_x, to_residual, mean, inner_scale.data(), inner_bias.data(), by_grad.data(),
        by_x.data(), constant.data());
}

}  // namespace

extern "C" {

int step() { return STEP; }

// The masks have one bit an element, in whole steps; statistics are the means, then 1 / the standard deviations.
void norm_forward(int is_bf16, int threads, int64_t elements, int64_t channels, int batch_statistics, int act,
                  double momentum, double eps, const void* x, const void* residual, void* y, void* masks,
                  const float* weight, const float* bias, float* running_mean, float* running_var,
                  float* statistics) {
    auto run = [&](auto kind) {
        using T = decltype(kind);
        const Walk walk(elements, channels, sizeof(T), threads);
        forward<T>((const T*)x, (const T*)residual, (T*)y, (Masks*)masks, weight, bias, running_mean, running_var,
                   statistics, statistics + channels, walk, batch_statistics, (Act)act, momentum, eps);
    };
    is_bf16 ? run(bf16{}) : run(float{});
}

void norm_backward(int is_bf16, int threads, int64_t elements, int64_t channels, int batch_statistics, int act,
                   const void* grad, const void* x, const void* masks, const float* weight, const float* bias,
                   const float* statistics, void* to_x, void* to_residual, float* to_weight, float* to_bias) {
    auto run = [&](auto kind) {
        using T = decltype(kind);
        const Walk walk(elements, channels, sizeof(T), threads);
        backward<T>((const T*)grad, (const T*)x, (const Masks*)masks, weight, bias, statistics, statistics + channels,
                    (T*)to_x, (T*)to_residual, to_weight, to_bias, walk, batch_statistics, (Act)act);
    };
    is_bf16 ? run(bf16{}) : run(float{});
}
}
