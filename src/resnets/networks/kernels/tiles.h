// What the kernels on bf16 matrix units (AMX) share. A tile is 16 rows of 64 bytes: of 32 bf16, or of 16 floats. A
// product of two tiles adds to each float of a third 32 products: of the 32 bf16 of a row of the first with a column of
// the second, whose rows hold pairs of bf16.

#pragma once
#include "bf16.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512BF16__) && defined(__linux__) && \
    __has_include(<amxtileintrin.h>)
#define HAS_TILES 1

#include <immintrin.h>

#include <cstdlib>
#include <new>

#define AMX __attribute__((target("amx-tile,amx-bf16")))

constexpr int64_t LANES = 16;             // rows of a tile, and words of one
constexpr int64_t PAIRED = 2 * LANES;     // bf16 of a row
constexpr int64_t TILE = LANES * PAIRED;  // bf16 of a tile
constexpr int64_t SUMS = LANES * LANES;   // floats of a tile
constexpr int64_t ROW = 64;               // bytes of a row
constexpr int64_t NEAR = 1 << 20;         // bytes that stay in the second level cache

INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T> struct Buffer {  // aligned for tiles
    T* at;
    explicit Buffer(int64_t count) : at(static_cast<T*>(std::aligned_alloc(64, ceil_div(count * sizeof(T), 64) * 64))) {
        if (!at) throw std::bad_alloc();
    }
    Buffer(Buffer&& other) : at(other.at) { other.at = nullptr; }
    ~Buffer() { std::free(at); }
};

struct alignas(64) TileConfig {  // eight whole tiles
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
    TileConfig() {
        for (int i = 0; i < 8; ++i) bytes[i] = ROW, rows[i] = LANES;
    }
};

AMX inline void use_tiles() {
    const TileConfig config;
    asm volatile("" ::"r"(&config) : "memory");  // the instruction's operand does not name all of it
    _tile_loadconfig(&config);
}
// To be called between writing to memory and loading tiles from it, which compilers are not told of.
INLINE void packed_for_tiles() { asm volatile("" ::: "memory"); }

// A convolution, as `matrix_units.py` gives it; its filters' sides are `rows` and `columns`.
struct Shape {
    int64_t pictures, height, width, channels, out, rows, columns, stride, padding, out_height, out_width;
};
INLINE Shape shape_of(const int64_t* numbers) {
    Shape shape;
    static_assert(sizeof shape == 11 * sizeof(int64_t));
    std::memcpy(&shape, numbers, sizeof shape);
    return shape;
}

struct Range {
    int64_t begin, end;
};
// Which of `count` places, `step` apart from the place `first` on, are none of padding: from 0 to `size`.
INLINE Range within(int64_t size, int64_t count, int64_t step, int64_t first) {
    int64_t begin = 0, end = count;
    while (begin < end && step * begin + first < 0) ++begin;
    while (end > begin && step * (end - 1) + first >= size) --end;
    return {begin, end};
}

// 16 bf16 of one row, each before that of another row, which may be missing: then before zero.
INLINE __m512i zipped(const bf16* one, const bf16* other) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)one));
    if (!other) return low;
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)other));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

INLINE void transpose(__m512i* v) {  // 16 by 16 words
    __m512i t[16];
    for (int i = 0; i < 8; ++i) {
        t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i)
        for (int half = 0; half < 16; half += 8) {
            t[half + i] = _mm512_shuffle_i32x4(v[half + i], v[half + 4 + i], 0x88);
            t[half + 4 + i] = _mm512_shuffle_i32x4(v[half + i], v[half + 4 + i], 0xdd);
        }
    for (int i = 0; i < 8; ++i) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        v[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    }
}

#endif
