// Steps of training on a processor, over channels-last memory: element e belongs to channel e % channels.
//
//   norm: y = relu((x - mean) * invstd * weight + bias + residual), and its gradient
//   pool: the largest of each window, and its gradient
//
// Activations are float or bfloat16 (as 16 bits); statistics, parameters and their gradients are float. Every result
// has the same bits at any number of threads.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
using Bits = uint16_t;
#else
constexpr int LANES = 8;
using Bits = uint8_t;
#endif
typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));
using bf16 = uint16_t;

constexpr int64_t TOGETHER = 2;       // tiles that share one reading of the parameters, and of the sums so far
constexpr int64_t LEAST_TILE = 128;   // elements: two together are read in the order of memory
constexpr int64_t PAGE_TILE = 2048;   // elements from which each tile has a page of memory of its own
constexpr int64_t CHUNKS = 64;        // aimed at, so that threads have equal shares
constexpr int64_t CHUNK_BYTES[] = {1 << 14, 1 << 18};  // lowest; highest, which a second level cache holds
constexpr int64_t ALONE = 1 << 15;    // elements up to which one thread is quicker than several

#define INLINE inline __attribute__((always_inline))

// ---- vectors ------------------------------------------------------------------------------------------------

INLINE Vec load(const float* p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
INLINE Vec load(const bf16* p) {
    Halves h;
    std::memcpy(&h, p, sizeof h);
    return (Vec)(__builtin_convertvector(h, Words) << 16);
}
INLINE void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
INLINE void store(bf16* p, Vec v) {  // rounds to the nearest, ties to even; NaN stays NaN
#if defined(__AVX512BF16__)
    auto h = _mm512_cvtneps_pbh((__m512)v);
#else
    Words w = (Words)v;
    w = v == v ? w + 0x7fff + ((w >> 16) & 1) : Words{} + 0x7fc00000;
    Halves h = __builtin_convertvector(w >> 16, Halves);
#endif
    std::memcpy(p, &h, sizeof h);
}

INLINE Bits above_zero(Vec v) {  // NaN counts as above, as it does in torch's ReLU
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NLE_UQ);
#elif defined(__AVX2__)
    return (Bits)_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NLE_UQ));
#else
    Bits bits = 0;
    for (int i = 0; i < LANES; ++i) bits |= (Bits)(!(v[i] <= 0)) << i;
    return bits;
#endif
}

INLINE Vec keep(Vec v, Bits bits) {  // zero where the bit is 0
#if defined(__AVX512F__)
    return (Vec)_mm512_maskz_mov_ps(bits, (__m512)v);
#else
    const Ints place = {1, 2, 4, 8, 16, 32, 64, 128};
    return (Vec)((Ints)v & (((Ints{} + bits) & place) != 0));
#endif
}

// Whole vectors, or the first `count` lanes of the tensor's very last one.
struct Whole {
    template <class T> INLINE Vec get(const T* p) const { return load(p); }
    template <class T> INLINE void put(T* p, Vec v) const { store(p, v); }
    INLINE Vec only(Vec v) const { return v; }
};
struct Part {
    int count;
    template <class T> INLINE Vec get(const T* p) const {
        T whole[LANES] = {};
        std::memcpy(whole, p, count * sizeof(T));
        return load(whole);
    }
    template <class T> INLINE void put(T* p, Vec v) const {
        T whole[LANES];
        store(whole, v);
        std::memcpy(p, whole, count * sizeof(T));
    }
    INLINE Vec only(Vec v) const { return keep(v, (Bits)((1u << count) - 1)); }
};

// ---- threads: torch's own, through the functions of the OpenMP library it has loaded ---------------------------

using Task = void (*)(void*);
void (*start_team)(Task, void*, unsigned, unsigned);
int (*member)();
int (*members)();

template <class F> struct Team {
    const F& work;
    int64_t items;
};

template <class F> void share(int threads, int64_t items, const F& work) {  // work(first, end)
    if (threads <= 1 || items <= 1) return work(0, items);
    Team<F> team{work, items};
    Task task = [](void* data) {
        auto& team = *static_cast<Team<F>*>(data);
        int64_t n = members(), me = member();
        int64_t first = team.items * me / n, end = team.items * (me + 1) / n;
        if (first < end) team.work(first, end);
    };
    start_team(task, &team, (unsigned)(threads < items ? threads : items), 0);
}

// ---- norm: the walk over memory -----------------------------------------------------------------------------------
//
// In chunks of whole tiles; a tile holds a whole number of pixels and of vectors, so channels that are no multiple of
// the lanes need no case of their own. Chunks depend on the shape alone; sums are float within one, and double across
// them, in their order.

struct Walk {
    int64_t elements, channels, tile, chunk, chunks;
    int threads;

    Walk(int64_t elements, int64_t channels, int64_t bytes, int threads) : elements(elements), channels(channels) {
        tile = std::lcm(channels, (int64_t)LANES);
        while (tile < LEAST_TILE) tile *= 2;
        int64_t aim = elements * bytes / CHUNKS;
        aim = (aim < CHUNK_BYTES[0] ? CHUNK_BYTES[0] : aim > CHUNK_BYTES[1] ? CHUNK_BYTES[1] : aim) / bytes;
        int64_t group = TOGETHER * tile;
        chunk = (aim + group - 1) / group * group;
        if (chunk < 32 * channels) chunk = (32 * channels + group - 1) / group * group;
        chunks = (elements + chunk - 1) / chunk;
        this->threads = elements <= ALONE ? 1 : threads;
    }

    // work(how many tiles together, element, place in the tile, Whole or Part). Tiles in between are taken one by
    // one: two streams within a page of memory would halve what the memory gives.
    template <class F> INLINE void operator()(int64_t index, const F& work) const {
        int64_t e = index * chunk, end = e + chunk < elements ? e + chunk : elements;
        if (tile == LEAST_TILE || tile >= PAGE_TILE)
            for (; e + TOGETHER * tile <= end; e += TOGETHER * tile)
                for (int64_t v = 0; v < tile; v += LANES)
                    work(std::integral_constant<int, TOGETHER>{}, e + v, v, Whole{});
        for (; e < end; e += tile) {
            const int64_t here = end - e < tile ? end - e : tile;
            int64_t v = 0;
            for (; v + LANES <= here; v += LANES) work(std::integral_constant<int, 1>{}, e + v, v, Whole{});
            if (v < here) work(std::integral_constant<int, 1>{}, e + v, v, Part{(int)(here - v)});
        }
    }
};

// A value a channel, repeated over a tile.
struct Tiled : std::vector<float> {
    Tiled(const Walk& walk, const float* channel) : std::vector<float>(walk.tile) {
        for (int64_t i = 0, c = 0; i < walk.tile; ++i, c = c + 1 < walk.channels ? c + 1 : 0) (*this)[i] = channel[c];
    }
};

// Two sums a channel over all elements. `chunk_sums(index, a, b)` adds a chunk's to two zeroed tiles.
template <class F> void sums(const Walk& walk, double* a, double* b, const F& chunk_sums) {
    const int64_t channels = walk.channels, tile = walk.tile;
    std::vector<float> parts(walk.chunks * tile * 2);
    share(walk.threads, walk.chunks, [&](int64_t first, int64_t end) {
        for (int64_t index = end - 1; index >= first; --index) {  // the last was written last, and is still near
            float* part = &parts[index * tile * 2];
            chunk_sums(index, part, part + tile);
            for (int64_t i = channels; i < tile; i += channels)
                for (int64_t c = 0; c < channels; ++c) {
                    part[c] += part[i + c];
                    part[tile + c] += part[tile + i + c];
                }
        }
    });
    share(walk.chunks * channels > ALONE ? walk.threads : 1, channels, [&](int64_t first, int64_t end) {
        std::fill(a + first, a + end, 0.0);
        std::fill(b + first, b + end, 0.0);
        for (int64_t index = 0; index < walk.chunks; ++index) {
            const float *pa = &parts[index * tile * 2], *pb = pa + tile;
            for (int64_t c = first; c < end; ++c) {
                a[c] += pa[c];
                b[c] += pb[c];
            }
        }
    });
}

// ---- norm: forward -------------------------------------------------------------------------------------------------------

constexpr int64_t GUESS = 8;  // pixels, spread over the batch, whose mean is taken off before squares are summed

template <class T> float as_float(T value) {
    if constexpr (std::is_same_v<T, float>) return value;
    uint32_t word = (uint32_t)value << 16;
    float f;
    std::memcpy(&f, &word, sizeof f);
    return f;
}

// Mean and biased variance of each channel.
template <class T> void statistics(const Walk& walk, const T* x, double* mean, double* variance) {
    const int64_t channels = walk.channels, pixels = walk.elements / channels;
    std::vector<float> guess(channels);
    for (int64_t k = 0; k < GUESS; ++k) {
        const T* pixel = x + pixels * k / GUESS * channels;
        for (int64_t c = 0; c < channels; ++c) guess[c] += as_float(pixel[c]) * (1.0f / GUESS);
    }
    const Tiled tiled(walk, guess.data());
    sums(walk, mean, variance, [&](int64_t index, float* first, float* second) {
        walk(index, [&](auto together, int64_t e, int64_t v, auto lanes) {
            Vec s = load(first + v), q = load(second + v), shift = load(&tiled[v]);
            for (int i = 0; i < together; ++i) {
                Vec d = lanes.only(lanes.get(x + e + i * walk.tile) - shift);
                s += d;
                q += d * d;
            }
            store(first + v, s);
            store(second + v, q);
        });
    });
    for (int64_t c = 0; c < channels; ++c) {
        double s = mean[c] / pixels, v = variance[c] / pixels - s * s;
        mean[c] = guess[c] + s;
        variance[c] = v < 0 ? 0 : v;
    }
}

template <class T, bool RELU, bool RESIDUAL>
void apply(const Walk& walk, const T* x, const T* residual, T* y, Bits* mask, const float* mean, const float* scale,
           const float* bias) {
    const Tiled means(walk, mean), scales(walk, scale), biases(walk, bias);
    share(walk.threads, walk.chunks, [&](int64_t first, int64_t end) {
        for (int64_t index = first; index < end; ++index)
            walk(index, [&](auto together, int64_t e, int64_t v, auto lanes) {
                Vec m = load(&means[v]), a = load(&scales[v]), b = load(&biases[v]);
                for (int i = 0; i < together; ++i) {
                    const int64_t at = e + i * walk.tile;
                    Vec out = (lanes.get(x + at) - m) * a + b;
                    if constexpr (RESIDUAL) out += lanes.get(residual + at);
                    if constexpr (RELU) {
                        Bits bits = above_zero(out);
                        if (mask) mask[at / LANES] = bits;
                        out = keep(out, bits);
                    }
                    lanes.put(y + at, out);
                }
            });
    });
}

template <class T>
void forward(const T* x, const T* residual, T* y, Bits* mask, const float* weight, const float* bias,
             float* running_mean, float* running_var, float* saved_mean, float* saved_invstd, const Walk& walk,
             bool batch_statistics, bool relu, double momentum, double eps) {
    const int64_t channels = walk.channels;
    std::vector<float> scale(channels);
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
    for (int64_t c = 0; c < channels; ++c) scale[c] = saved_invstd[c] * weight[c];
    auto run = relu ? (residual ? apply<T, true, true> : apply<T, true, false>)
                    : (residual ? apply<T, false, true> : apply<T, false, false>);
    run(walk, x, residual, y, mask, saved_mean, scale.data(), bias);
}

// ---- norm: backward ------------------------------------------------------------------------------------------------------

template <class T, bool RELU, bool RESIDUAL>
void gradients(const Walk& walk, const T* grad, const T* x, const Bits* mask, T* to_x, T* to_residual,
               const float* mean, const float* by_grad, const float* by_x, const float* constant) {
    const Tiled means(walk, mean), by_grads(walk, by_grad), by_xs(walk, by_x), constants(walk, constant);
    share(walk.threads, walk.chunks, [&](int64_t first, int64_t end) {
        for (int64_t index = first; index < end; ++index)
            walk(index, [&](auto together, int64_t e, int64_t v, auto lanes) {
                Vec m = load(&means[v]), a = load(&by_grads[v]), b = load(&by_xs[v]), c = load(&constants[v]);
                for (int i = 0; i < together; ++i) {
                    const int64_t at = e + i * walk.tile;
                    Vec g = lanes.get(grad + at);
                    if constexpr (RELU) g = keep(g, mask[at / LANES]);
                    if constexpr (RESIDUAL) lanes.put(to_residual + at, g);
                    lanes.put(to_x + at, g * a + (lanes.get(x + at) - m) * b + c);
                }
            });
    });
}

// The gradient's sum and its product with x - mean.
template <class T, bool RELU>
void gradient_sums(const Walk& walk, const T* grad, const T* x, const Bits* mask, const float* mean, double* plain,
                   double* product) {
    const Tiled means(walk, mean);
    sums(walk, plain, product, [&](int64_t index, float* first, float* second) {
        walk(index, [&](auto together, int64_t e, int64_t v, auto lanes) {
            Vec s = load(first + v), q = load(second + v), m = load(&means[v]);
            for (int i = 0; i < together; ++i) {
                const int64_t at = e + i * walk.tile;
                Vec g = lanes.get(grad + at);
                if constexpr (RELU) g = keep(g, mask[at / LANES]);
                s += g;
                q += g * (lanes.get(x + at) - m);
            }
            store(first + v, s);
            store(second + v, q);
        });
    });
}

template <class T>
void backward(const T* grad, const T* x, const Bits* mask, const float* weight, const float* mean,
              const float* invstd, T* to_x, T* to_residual, float* to_weight, float* to_bias, const Walk& walk,
              bool batch_statistics) {
    const int64_t channels = walk.channels, pixels = walk.elements / channels;
    std::vector<double> plain(channels), product(channels);
    (mask ? gradient_sums<T, true> : gradient_sums<T, false>)(walk, grad, x, mask, mean, plain.data(), product.data());
    std::vector<float> by_grad(channels), by_x(channels), constant(channels);
    for (int64_t c = 0; c < channels; ++c) {
        const double scale = (double)weight[c] * invstd[c], by_invstd = product[c] * invstd[c];
        to_weight[c] = (float)by_invstd;
        to_bias[c] = (float)plain[c];
        by_grad[c] = (float)scale;
        if (!batch_statistics) continue;
        by_x[c] = (float)(-scale * invstd[c] * by_invstd / pixels);
        constant[c] = (float)(-scale * plain[c] / pixels);
    }
    auto run = mask ? (to_residual ? gradients<T, true, true> : gradients<T, true, false>) : gradients<T, false, false>;
    run(walk, grad, x, mask, to_x, to_residual, mean, by_grad.data(), by_x.data(), constant.data());
}

// ---- pool ----------------------------------------------------------------------------------------------------------

struct Windows {
    int64_t pictures, channels, height, width, out_height, out_width;
    int64_t size[2], stride[2], padding[2];  // along the height, along the width
};

// The window's place in which the largest value stands is kept in a byte: row * width of the window + column.
typedef uint8_t Bytes __attribute__((vector_size(LANES)));

template <class F> INLINE void each_vector(int64_t channels, const F& work) {  // work(channel, Whole or Part)
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) work(c, Whole{});
    if (c < channels) work(c, Part{(int)(channels - c)});
}

INLINE void put_bytes(uint8_t* p, Ints v, Whole) {
    Bytes bytes = __builtin_convertvector(v, Bytes);
    std::memcpy(p, &bytes, sizeof bytes);
}
INLINE void put_bytes(uint8_t* p, Ints v, Part part) {
    for (int i = 0; i < part.count; ++i) p[i] = (uint8_t)v[i];
}
INLINE Bits equal_bytes(const uint8_t* p, int value, Whole) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    return _mm_cmpeq_epi8_mask(_mm_loadu_si128((const __m128i*)p), _mm_set1_epi8((char)value));
#elif defined(__AVX2__)
    return (Bits)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadl_epi64((const __m128i*)p), _mm_set1_epi8((char)value)));
#else
    Bits bits = 0;
    for (int i = 0; i < LANES; ++i) bits |= (Bits)(p[i] == value) << i;
    return bits;
#endif
}
INLINE Bits equal_bytes(const uint8_t* p, int value, Part part) {
    Bits bits = 0;
    for (int i = 0; i < part.count; ++i) bits |= (Bits)(p[i] == value) << i;
    return bits;
}

// What one pixel looks at: where its channels begin, and its place in the window.
struct Seen {
    int64_t start;
    int place;
};

template <class T> void largest(const Windows& w, int threads, const T* x, T* y, uint8_t* places) {
    share(threads, w.pictures * w.out_height, [&](int64_t first, int64_t end) {
        std::vector<Seen> window(w.size[0] * w.size[1]);
        for (int64_t line = first; line < end; ++line) {
            const int64_t picture = line / w.out_height * w.height, top = line % w.out_height * w.stride[0] - w.padding[0];
            for (int64_t column = 0; column < w.out_width; ++column) {
                const int64_t left = column * w.stride[1] - w.padding[1], out = (line * w.out_width + column) * w.channels;
                int count = 0;
                for (int64_t i = 0; i < w.size[0]; ++i)
                    for (int64_t j = 0; j < w.size[1]; ++j)
                        if (top + i >= 0 && top + i < w.height && left + j >= 0 && left + j < w.width)
                            window[count++] = {((picture + top + i) * w.width + left + j) * w.channels,
                                               (int)(i * w.size[1] + j)};
                each_vector(w.channels, [&](int64_t c, auto lanes) {
                    Vec most = lanes.get(x + window[0].start + c);
                    Ints place = Ints{} + window[0].place;
                    for (int k = 1; k < count; ++k) {
                        Vec v = lanes.get(x + window[k].start + c);
                        Ints larger = (v > most) | (v != v);
                        most = larger ? v : most;
                        place = larger ? Ints{} + window[k].place : place;
                    }
                    lanes.put(y + out + c, most);
                    if (places) put_bytes(places + out + c, place, lanes);
                });
            }
        }
    });
}

// Each pixel of the input collects from the windows that it is in, so nothing is written twice.
template <class T> void to_largest(const Windows& w, int threads, const T* grad, const uint8_t* places, T* to_x) {
    auto first_window = [&](int axis, int64_t at) {
        const int64_t from = at + w.padding[axis] - w.size[axis] + 1;
        return from <= 0 ? 0 : (from + w.stride[axis] - 1) / w.stride[axis];
    };
    share(threads, w.pictures * w.height, [&](int64_t first, int64_t end) {
        std::vector<Seen> windows(w.size[0] * w.size[1]);
        for (int64_t line = first; line < end; ++line) {
            const int64_t picture = line / w.height * w.out_height, row = line % w.height + w.padding[0];
            const int64_t top = first_window(0, line % w.height);
            for (int64_t column = w.padding[1]; column < w.width + w.padding[1]; ++column) {
                const int64_t left = first_window(1, column - w.padding[1]);
                int count = 0;
                for (int64_t i = top; i < w.out_height && i * w.stride[0] <= row; ++i)
                    for (int64_t j = left; j < w.out_width && j * w.stride[1] <= column; ++j)
                        windows[count++] = {((picture + i) * w.out_width + j) * w.channels,
                                            (int)((row - i * w.stride[0]) * w.size[1] + column - j * w.stride[1])};
                T* to = to_x + (line * w.width + column - w.padding[1]) * w.channels;
                each_vector(w.channels, [&](int64_t c, auto lanes) {
                    Vec sum = {};
                    for (int k = 0; k < count; ++k) {
                        const int64_t at = windows[k].start + c;
                        sum += keep(lanes.get(grad + at), equal_bytes(places + at, windows[k].place, lanes));
                    }
                    lanes.put(to + c, sum);
                });
            }
        }
    });
}

}  // namespace

extern "C" {

void use_threads(void* start, void* number, void* count) {
    start_team = reinterpret_cast<decltype(start_team)>(start);
    member = reinterpret_cast<decltype(member)>(number);
    members = reinterpret_cast<decltype(members)>(count);
}

int lanes() { return LANES; }

void norm_forward(int is_bf16, int threads, int64_t elements, int64_t channels, int batch_statistics, int relu,
                  double momentum, double eps, const void* x, const void* residual, void* y, void* mask,
                  const float* weight, const float* bias, float* running_mean, float* running_var,
                  float* statistics) {
    auto run = [&](auto kind) {
        using T = decltype(kind);
        forward<T>((const T*)x, (const T*)residual, (T*)y, (Bits*)mask, weight, bias, running_mean, running_var,
                   statistics, statistics + channels, Walk(elements, channels, sizeof(T), threads), batch_statistics, relu, momentum, eps);
    };
    is_bf16 ? run(bf16{}) : run(float{});
}

void norm_backward(int is_bf16, int threads, int64_t elements, int64_t channels, int batch_statistics,
                   const void* grad, const void* x, const void* mask, const float* weight,
                   const float* statistics, void* to_x, void* to_residual, float* to_weight, float* to_bias) {
    auto run = [&](auto kind) {
        using T = decltype(kind);
        backward<T>((const T*)grad, (const T*)x, (const Bits*)mask, weight, statistics, statistics + channels, (T*)to_x,
                    (T*)to_residual, to_weight, to_bias, Walk(elements, channels, sizeof(T), threads), batch_statistics);
    };
    is_bf16 ? run(bf16{}) : run(float{});
}

void pool_forward(int is_bf16, int threads, const Windows* windows, const void* x, void* y, void* places) {
    is_bf16 ? largest<bf16>(*windows, threads, (const bf16*)x, (bf16*)y, (uint8_t*)places)
            : largest<float>(*windows, threads, (const float*)x, (float*)y, (uint8_t*)places);
}

void pool_backward(int is_bf16, int threads, const Windows* windows, const void* grad, const void* places, void* to_x) {
    is_bf16 ? to_largest<bf16>(*windows, threads, (const bf16*)grad, (const uint8_t*)places, (bf16*)to_x)
            : to_largest<float>(*windows, threads, (const float*)grad, (const uint8_t*)places, (float*)to_x);
}
}
