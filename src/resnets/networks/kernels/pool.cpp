// Max pooling over channels-last memory, and its gradient. What is kept for the gradient is a byte a value: which
// place of the window was the largest, the first of several, a NaN before all, as PyTorch chooses.

#include <algorithm>
#include <cstring>
#include <limits>

#include "bf16.h"
#include "threads.h"

namespace {

constexpr int64_t TOGETHER = 64;  // channels whose values stay in registers

struct Shape {  // as `pool.py` gives it
    int64_t pictures, height, width, channels, side, stride, padding, out_height, out_width;
};

INLINE void put(float* to, float value) { *to = value; }
INLINE void put(bf16* to, float value) {  // to the nearest, ties to even; NaN stays NaN
    uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    *to = value != value ? 0x7fc0 : (uint16_t)((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

struct Range {
    int64_t begin, end;
};

// Of a window's places, those that are in the picture.
INLINE Range inside(int64_t out, const Shape& of, int64_t size) {
    const int64_t start = out * of.stride - of.padding;
    return {std::max<int64_t>(0, -start), std::min(of.side, size - start)};
}
// The windows that a place is in.
INLINE Range windows(int64_t place, const Shape& of, int64_t size) {
    const int64_t at = place + of.padding, first = at - of.side + 1;
    return {first <= 0 ? 0 : (first + of.stride - 1) / of.stride, std::min(size, at / of.stride + 1)};
}

template <class T>
INLINE void largest(const Shape& of, const T* x, int64_t h, int64_t w, Range down, Range across, int64_t from,
                    int64_t count, T* y, uint8_t* which) {
    float best[TOGETHER];
    int32_t place[TOGETHER];
    for (int64_t c = 0; c < count; ++c) {
        best[c] = -std::numeric_limits<float>::infinity();
        place[c] = (int32_t)(down.begin * of.side + across.begin);
    }
    for (int64_t i = down.begin; i < down.end; ++i)
        for (int64_t j = across.begin; j < across.end; ++j) {
            const T* at = x + ((h + i) * of.width + w + j) * of.channels + from;
            const int32_t here = (int32_t)(i * of.side + j);
            for (int64_t c = 0; c < count; ++c) {
                const float value = as_float(at[c]);
                const bool taken = (value > best[c]) | (value != value);
                best[c] = taken ? value : best[c];
                place[c] = taken ? here : place[c];
            }
        }
    for (int64_t c = 0; c < count; ++c) put(y + from + c, best[c]);
    if (which)
        for (int64_t c = 0; c < count; ++c) which[from + c] = (uint8_t)place[c];
}

template <class T> void forward(int threads, const Shape& of, const T* all_x, T* y, uint8_t* which) {
    share(threads, of.pictures * of.out_height, [&](int64_t first, int64_t end) {
        for (int64_t row = first; row < end; ++row) {
            const int64_t out_h = row % of.out_height;
            const T* x = all_x + row / of.out_height * of.height * of.width * of.channels;
            const Range down = inside(out_h, of, of.height);
            for (int64_t out_w = 0; out_w < of.out_width; ++out_w) {
                const Range across = inside(out_w, of, of.width);
                const int64_t at = (row * of.out_width + out_w) * of.channels;
                for (int64_t c = 0; c < of.channels; c += TOGETHER) {
                    const int64_t h = out_h * of.stride - of.padding, w = out_w * of.stride - of.padding;
                    uint8_t* places = which ? which + at : nullptr;
                    if (c + TOGETHER <= of.channels)
                        largest(of, x, h, w, down, across, c, TOGETHER, y + at, places);
                    else
                        largest(of, x, h, w, down, across, c, of.channels - c, y + at, places);
                }
            }
        }
    });
}

template <class T>
INLINE void gathered(const Shape& of, const T* grad, const uint8_t* which, int64_t h, int64_t w, Range down,
                     Range across, int64_t from, int64_t count, T* to_x) {
    float sum[TOGETHER] = {};
    for (int64_t i = down.begin; i < down.end; ++i)
        for (int64_t j = across.begin; j < across.end; ++j) {
            const int64_t at = (i * of.out_width + j) * of.channels + from;
            const uint8_t here =
                (uint8_t)((h + of.padding - i * of.stride) * of.side + w + of.padding - j * of.stride);
            for (int64_t c = 0; c < count; ++c) sum[c] += which[at + c] == here ? as_float(grad[at + c]) : 0.0f;
        }
    for (int64_t c = 0; c < count; ++c) put(to_x + from + c, sum[c]);
}

template <class T> void backward(int threads, const Shape& of, const T* all_grad, const uint8_t* all_which, T* to_x) {
    share(threads, of.pictures * of.height, [&](int64_t first, int64_t end) {
        for (int64_t row = first; row < end; ++row) {
            const int64_t h = row % of.height, picture = row / of.height * of.out_height * of.out_width * of.channels;
            const T* grad = all_grad + picture;
            const uint8_t* which = all_which + picture;
            const Range down = windows(h, of, of.out_height);
            for (int64_t w = 0; w < of.width; ++w) {
                const Range across = windows(w, of, of.out_width);
                T* to = to_x + (row * of.width + w) * of.channels;
                for (int64_t c = 0; c < of.channels; c += TOGETHER)
                    if (c + TOGETHER <= of.channels)
                        gathered(of, grad, which, h, w, down, across, c, TOGETHER, to);
                    else
                        gathered(of, grad, which, h, w, down, across, c, of.channels - c, to);
            }
        }
    });
}

Shape shape_of(const int64_t* numbers) {
    Shape shape;
    static_assert(sizeof shape == 9 * sizeof(int64_t));
    std::memcpy(&shape, numbers, sizeof shape);
    return shape;
}

}  // namespace

extern "C" {

// `which` may be null where no gradient is wanted.
void pool_forward(int is_bf16, int threads, const int64_t* numbers, const void* x, void* y, uint8_t* which) {
    const Shape of = shape_of(numbers);
    is_bf16 ? forward(threads, of, (const bf16*)x, (bf16*)y, which)
            : forward(threads, of, (const float*)x, (float*)y, which);
}

void pool_backward(int is_bf16, int threads, const int64_t* numbers, const void* grad, const uint8_t* which,
                   void* to_x) {
    const Shape of = shape_of(numbers);
    is_bf16 ? backward(threads, of, (const bf16*)grad, which, (bf16*)to_x)
            : backward(threads, of, (const float*)grad, which, (float*)to_x);
}
}
