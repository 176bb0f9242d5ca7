// Pictures of bytes made ready for a network in one pass: cut from inside a border, mirrored, and each value looked up
// in a table that says what it is once normalised.

#include <algorithm>
#include <cstring>
#include <vector>

#include "bf16.h"
#include "threads.h"

namespace {

constexpr int64_t VALUES = 256;  // of a byte
enum Border { ZERO, EDGE, REFLECT };

struct Shape {  // as `pictures.py` gives it
    int64_t pictures, height, width, channels, pad, border;
};

// The line of the picture that is seen at `line`, which may be in the border; -1 where nothing is.
INLINE int64_t seen_at(int64_t line, int64_t lines, int64_t border) {
    if (line >= 0 && line < lines) return line;
    if (border == ZERO) return -1;
    if (border == EDGE) return line < 0 ? 0 : lines - 1;
    return line < 0 ? -line : 2 * (lines - 1) - line;
}

// channels: of a pixel, known when this is compiled, or 0 for any.
template <int64_t channels, class T>
INLINE void row(const uint8_t* x, const std::vector<int64_t>& columns, int64_t any, const T* table, T* y) {
    const int64_t count = channels ? channels : any;
    for (const int64_t column : columns) {
        for (int64_t c = 0; c < count; ++c) y[c] = table[c * VALUES + (column < 0 ? 0 : x[column * count + c])];
        y += count;
    }
}

template <class T>
void fill(int threads, const Shape& of, const uint8_t* all_x, const int64_t* offsets, const uint8_t* mirrored,
          const T* table, T* all_y) {
    share(threads, of.pictures * of.height, [&](int64_t first, int64_t end) {
        std::vector<int64_t> columns(of.width);  // where each of a picture's columns comes from
        const int64_t line = of.width * of.channels;
        for (int64_t at = first, last = -1; at < end; ++at) {
            const int64_t picture = at / of.height;
            const int64_t down = offsets ? offsets[2 * picture] - of.pad : 0;
            const int64_t right = offsets ? offsets[2 * picture + 1] - of.pad : 0;
            if (picture != last) {
                for (int64_t w = 0; w < of.width; ++w) columns[w] = seen_at(w + right, of.width, of.border);
                if (mirrored && mirrored[picture]) std::reverse(columns.begin(), columns.end());
                last = picture;
            }
            const int64_t from = seen_at(at % of.height + down, of.height, of.border);
            T* y = all_y + at * line;
            if (from < 0) {
                for (int64_t i = 0; i < line; ++i) y[i] = table[i % of.channels * VALUES];
                continue;
            }
            const uint8_t* x = all_x + (picture * of.height + from) * line;
            if (of.channels == 3)
                row<3>(x, columns, 3, table, y);
            else if (of.channels == 1)
                row<1>(x, columns, 1, table, y);
            else
                row<0>(x, columns, of.channels, table, y);
        }
    });
}

}  // namespace

extern "C" {

// `offsets` (pictures, 2: down, right, from 0 to 2 * pad) may be null, as may `mirrored` (pictures).
void make_ready(int is_bf16, int threads, const int64_t* numbers, const void* x, const void* offsets,
                const void* mirrored, const void* table, void* y) {
    Shape of;
    static_assert(sizeof of == 6 * sizeof(int64_t));
    std::memcpy(&of, numbers, sizeof of);
    is_bf16 ? fill(threads, of, (const uint8_t*)x, (const int64_t*)offsets, (const uint8_t*)mirrored,
                   (const bf16*)table, (bf16*)y)
            : fill(threads, of, (const uint8_t*)x, (const int64_t*)offsets, (const uint8_t*)mirrored,
                   (const float*)table, (float*)y);
}
}
