// The gradient of a convolution's filters on bf16 matrix units (AMX): to_weight[o][i][j][c], the sum over pictures
// and places of grad[n][h][w][o] * x[n][stride * h + i - padding][stride * w + j - padding][c], in float.
//
// A matrix unit multiplies 16 output channels by 16 input channels over 16 places of two pictures at once, from
// tiles of 1 kB. Both tensors are packed for that, a pair of pictures at a time, each place's channels with those
// of the same place in the other picture: x as [16 channels][place][channel][picture], grad as
// [16 channels][16 places][channel][place][picture]. Places count through the padded rows of x; grad is zero where
// it has none. A filter's tap is then a shift of x by whole places, 64 bytes each: no tap needs a copy of its own.
// With a stride of 2, x is packed as planes of even and odd rows and columns, in which every tap is such a shift.
// Where x has few channels (a stem), those of a row of taps stand side by side in each place.

#include "tiles.h"

#ifdef HAS_TILES

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace {

constexpr int64_t PLACE = PAIRED;                 // bf16 of a place: 16 channels of two pictures
constexpr int64_t ALONE_MOST = 16 << 20;          // bytes of sums, of all threads, up to which each has its own
constexpr int64_t NEAR = 1 << 20;                 // bytes that stay in the second level cache
constexpr int64_t PACKED_MOST = 32 << 20;         // bytes that are packed at a time where threads share them
constexpr int64_t TILES_LEAST = 32;               // of places that are summed before the sums are put away
constexpr int64_t TILES_ALONE = 64;               // the same where each thread has its own sums

// How a convolution is packed. Counts of packed elements are in bf16.
struct Layout : Shape {
    bool narrow;              // a row of taps is one tap, whose channels stand side by side
    int64_t taps, each;       // taps, and channels of one
    int64_t blocks;           // of 16 of these channels, the last one filled up
    int64_t planes_down, planes_across;
    int64_t line;             // places of a row
    int64_t lines;            // rows of a plane
    int64_t tiles;            // of 16 places of grad's
    int64_t places;           // of a plane, with those that the last tile of the last tap reads beyond it
    int64_t plane, x_pair, grad_pair, pairs;

    explicit Layout(const Shape& shape) : Shape(shape) {
        narrow = channels % LANES != 0;
        taps = narrow ? rows : rows * columns;
        each = narrow ? columns * channels : channels;
        blocks = ceil_div(each, LANES);
        planes_down = std::min(stride, rows);
        planes_across = narrow ? 1 : std::min(stride, columns);
        const bool shared = columns == 2 * padding + 1;  // a row's padding on the right is the next one's on the left
        line = narrow        ? out_width
               : stride == 1 ? width + (shared ? padding : 2 * padding)
                             : out_width + (columns - 1) / stride;
        lines = out_height + (rows - 1) / stride;
        tiles = ceil_div(out_height * line, LANES);
        const int64_t farthest = (rows - 1) / stride * line + (narrow ? 0 : (columns - 1) / stride);
        places = std::max(tiles * LANES + farthest, lines * line);
        plane = places * blocks * PLACE;
        x_pair = plane * planes_down * planes_across;
        grad_pair = tiles * out / LANES * TILE;
        pairs = ceil_div(pictures, 2);
    }

    // Where the place (0, 0) of grad meets x at this tap, for a block of channels.
    int64_t start(int64_t tap, int64_t block) const {
        const int64_t i = narrow ? tap : tap / columns, j = narrow ? 0 : tap % columns;
        const int64_t which = i % stride * planes_across + j % stride;
        return which * plane + (block * places + i / stride * line + j / stride) * PLACE;
    }
};

// ---- packing ---------------------------------------------------------------------------------------------------------

INLINE __mmask16 first(int64_t count) { return count >= LANES ? 0xffff : (__mmask16)((1 << count) - 1); }

struct Pictures {
    const bf16 *one, *other;
    Pictures(const bf16* all, int64_t size, int64_t pair, int64_t count)
        : one(all + 2 * pair * size), other(2 * pair + 1 < count ? one + size : nullptr) {}
};

// What is padding stays as it is: zero from the beginning.
void pack_row(const Layout& of, const Pictures& x, int64_t h, int64_t across, bf16* to) {
    constexpr int64_t TOGETHER = 32;  // places, so that what is read stays near until all its channels are
    int64_t begin = 0, end = of.line;
    while (of.stride * begin + across < of.padding) ++begin;
    while (end > begin && of.stride * (end - 1) + across - of.padding >= of.width) --end;
    const int64_t from = (h * of.width + across - of.padding) * of.channels, step = of.stride * of.channels;
    for (int64_t near = begin; near < end; near += TOGETHER)
        for (int64_t block = 0; block < of.blocks; ++block)
            for (int64_t w = near; w < std::min(end, near + TOGETHER); ++w) {
                const int64_t at = from + w * step + block * LANES;
                _mm512_store_si512(to + (block * of.places + w) * PLACE,
                                   zipped(x.one + at, x.other ? x.other + at : nullptr));
            }
}
void pack_narrow_row(const Layout& of, const Pictures& x, int64_t h, std::vector<bf16>& one, std::vector<bf16>& other,
                     bf16* to) {
    const int64_t length = of.width * of.channels, padding = of.padding * of.channels;
    std::memcpy(&one[padding], x.one + h * length, length * sizeof(bf16));
    if (x.other) std::memcpy(&other[padding], x.other + h * length, length * sizeof(bf16));
    for (int64_t block = 0; block < of.blocks; ++block)
        for (int64_t w = 0; w < of.out_width; ++w) {
            const int64_t at = w * of.stride * of.channels + block * LANES;
            const __m512i both = zipped(&one[at], x.other ? &other[at] : nullptr);
            _mm512_store_si512(to + (block * of.places + w) * PLACE,
                               _mm512_maskz_mov_epi32(first(of.each - block * LANES), both));
        }
}
void pack_x(const Layout& of, const bf16* all, int64_t pair, bf16* to) {
    const Pictures x(all, of.height * of.width * of.channels, pair, of.pictures);
    std::vector<bf16> one, other;  // a padded row each
    if (of.narrow) one.resize((of.width + 2 * of.padding) * of.channels + PLACE), other = one;
    for (int64_t down = 0; down < of.planes_down; ++down)
        for (int64_t across = 0; across < of.planes_across; ++across, to += of.plane)
            for (int64_t row = 0; row < of.lines; ++row) {
                const int64_t h = of.stride * row + down - of.padding;
                if (h < 0 || h >= of.height) continue;
                bf16* at = to + row * of.line * PLACE;
                of.narrow ? pack_narrow_row(of, x, h, one, other, at) : pack_row(of, x, h, across, at);
            }
}

void pack_grad(const Layout& of, const bf16* all, int64_t pair, bf16* to, int64_t panel) {  // panel: of 16 channels
    const Pictures grad(all, of.out_height * of.out_width * of.out, pair, of.pictures);
    int64_t h = 0, w = 0;
    for (int64_t tile = 0; tile < of.tiles; ++tile) {
        int64_t from[LANES];
        for (int64_t& at : from) {
            at = h < of.out_height && w < of.out_width ? (h * of.out_width + w) * of.out : -1;
            if (++w == of.line) w = 0, ++h;
        }
        for (int64_t block = 0; block < of.out / LANES; ++block) {
            __m512i v[LANES];
            for (int i = 0; i < LANES; ++i) {
                const int64_t at = from[i] + block * LANES;
                v[i] = from[i] < 0 ? _mm512_setzero_si512() : zipped(grad.one + at, grad.other ? grad.other + at : nullptr);
            }
            transpose(v);
            for (int i = 0; i < LANES; ++i) _mm512_store_si512(to + block * panel + tile * TILE + i * PLACE, v[i]);
        }
    }
}

// Pairs of pictures, packed behind one another.
struct Packed {
    const Layout& of;
    int64_t pairs, panel;
    Buffer<bf16> x, grad;
    Packed(const Layout& of, int64_t pairs)
        : of(of), pairs(pairs), panel(pairs * of.tiles * TILE), x(pairs * of.x_pair), grad(pairs * of.grad_pair) {}
    void clear(int64_t slot) { std::memset(x.at + slot * of.x_pair, 0, of.x_pair * sizeof(bf16)); }
    void fill(int64_t slot, const bf16* all_x, const bf16* all_grad, int64_t pair) {
        pack_x(of, all_x, pair, x.at + slot * of.x_pair);
        pack_grad(of, all_grad, pair, grad.at + slot * of.tiles * TILE, panel);
    }
    static int64_t pairs_in(const Layout& of, int64_t bytes, int64_t most) {
        return std::clamp<int64_t>(bytes / ((of.x_pair + of.grad_pair) * (int64_t)sizeof(bf16)), 1, most);
    }
};

// ---- multiplying -----------------------------------------------------------------------------------------------------

struct Run {  // of tiles that are summed: in `pairs` pairs of pictures, `tiles` in each
    int64_t pairs, tiles, x_step, grad_step;
    bool fresh;  // the sums begin here
};

// M blocks of grad's channels by N blocks of x's; sums: M by N tiles.
template <int M, int N>
AMX void multiply(const Run& run, const bf16* const* grad, const bf16* const* x, float* const* sums) {
    if (run.fresh) {
        _tile_zero(0);
        if (N > 1) _tile_zero(1);
        if (M > 1) _tile_zero(2);
        if (M > 1 && N > 1) _tile_zero(3);
    } else {
        _tile_loadd(0, sums[0], ROW);
        if (N > 1) _tile_loadd(1, sums[1], ROW);
        if (M > 1) _tile_loadd(2, sums[N], ROW);
        if (M > 1 && N > 1) _tile_loadd(3, sums[N + 1], ROW);
    }
    for (int64_t pair = 0; pair < run.pairs; ++pair) {
        const bf16 *g0 = grad[0] + pair * run.grad_step, *x0 = x[0] + pair * run.x_step;
        const bf16* g1 = M > 1 ? grad[1] + pair * run.grad_step : nullptr;
        const bf16* x1 = N > 1 ? x[1] + pair * run.x_step : nullptr;
        for (int64_t at = 0; at < run.tiles * TILE; at += TILE) {
            _tile_loadd(6, x0 + at, ROW);
            _tile_loadd(4, g0 + at, ROW);
            _tile_dpbf16ps(0, 4, 6);
            if (N > 1) {
                _tile_loadd(7, x1 + at, ROW);
                _tile_dpbf16ps(1, 4, 7);
            }
            if (M > 1) {
                _tile_loadd(5, g1 + at, ROW);
                _tile_dpbf16ps(2, 5, 6);
                if (N > 1) _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    _tile_stored(0, sums[0], ROW);
    if (N > 1) _tile_stored(1, sums[1], ROW);
    if (M > 1) _tile_stored(2, sums[N], ROW);
    if (M > 1 && N > 1) _tile_stored(3, sums[N + 1], ROW);
}

// Where each tile of sums has its part of x: sums are [16 of grad's channels][tap][16 of x's channels].
struct Part {
    int64_t x, sums;
};
std::vector<Part> parts_of(const Layout& of) {
    std::vector<Part> parts;
    for (int64_t block = 0; block < of.blocks; ++block)
        for (int64_t tap = 0; tap < of.taps; ++tap)  // neighbours read almost the same
            parts.push_back({of.start(tap, block), (tap * of.blocks + block) * SUMS});
    return parts;
}

// Adds what is packed in the first `pairs` slots, for grad's channels of the blocks from `begin` to `end`.
AMX void add(const Packed& packed, const std::vector<Part>& parts, int64_t pairs, int64_t begin, int64_t end,
             int64_t together, float* sums, bool fresh) {
    const Layout& of = packed.of;
    const int64_t of_block = (int64_t)parts.size() * SUMS;
    const int64_t tiles = std::min(of.tiles, together), group = std::max<int64_t>(1, together / of.tiles);
    const TileConfig config;
    _tile_loadconfig(&config);
    for (int64_t pair = 0; pair < pairs; pair += group)
        for (int64_t tile = 0; tile < of.tiles; tile += tiles) {
            const Run run{std::min(group, pairs - pair), std::min(tiles, of.tiles - tile), of.x_pair, of.tiles * TILE,
                          fresh && pair == 0 && tile == 0};
            for (int64_t block = begin; block < end; block += 2) {
                const bf16* at = packed.grad.at + block * packed.panel + (pair * of.tiles + tile) * TILE;
                const bf16* grads[] = {at, at + packed.panel};
                for (size_t i = 0; i < parts.size(); i += 2) {
                    const bool two = block + 1 < end, wide = i + 1 < parts.size();
                    const Part &a = parts[i], &b = parts[wide ? i + 1 : i];
                    const bf16* from = packed.x.at + pair * of.x_pair + tile * TILE;
                    const bf16* xs[] = {from + a.x, from + b.x};
                    float *upper = sums + block * of_block, *lower = upper + of_block;
                    float* four[] = {upper + a.sums, upper + b.sums, lower + a.sums, lower + b.sums};
                    float* column[] = {upper + a.sums, lower + a.sums};
                    if (wide)
                        (two ? multiply<2, 2> : multiply<1, 2>)(run, grads, xs, four);
                    else
                        (two ? multiply<2, 1> : multiply<1, 1>)(run, grads, xs, column);
                }
            }
        }
    _tile_release();
}

// Every thread packs and sums pairs of its own: for few filters, whose sums all stay near.
std::vector<Buffer<float>> sum_alone(const Layout& of, const std::vector<Part>& parts, const bf16* x, const bf16* grad,
                                     int64_t workers) {
    const int64_t blocks = of.out / LANES, count = blocks * (int64_t)parts.size() * SUMS;
    std::vector<Buffer<float>> sums;
    for (int64_t i = 0; i < workers; ++i) sums.emplace_back(count);
    share((int)workers, workers, [&](int64_t from, int64_t to) {
        for (int64_t worker = from; worker < to; ++worker) {
            const int64_t begin = of.pairs * worker / workers, end = of.pairs * (worker + 1) / workers;
            Packed packed(of, Packed::pairs_in(of, NEAR, end - begin));
            for (int64_t slot = 0; slot < packed.pairs; ++slot) packed.clear(slot);
            for (int64_t pair = begin; pair < end; pair += packed.pairs) {
                const int64_t pairs = std::min(packed.pairs, end - pair);
                for (int64_t slot = 0; slot < pairs; ++slot) packed.fill(slot, x, grad, pair + slot);
                add(packed, parts, pairs, 0, blocks, TILES_ALONE, sums[worker].at, pair == begin);
            }
        }
    });
    return sums;
}

// All threads pack, then each sums channels of its own: for many filters.
std::vector<Buffer<float>> sum_together(const Layout& of, const std::vector<Part>& parts, const bf16* x,
                                        const bf16* grad, int threads) {
    const int64_t blocks = of.out / LANES;
    const int64_t together = std::max(TILES_LEAST, NEAR / (of.blocks * TILE * (int64_t)sizeof(bf16)));
    std::vector<Buffer<float>> sums;
    sums.emplace_back(blocks * (int64_t)parts.size() * SUMS);
    Packed packed(of, Packed::pairs_in(of, PACKED_MOST, of.pairs));
    share(threads, packed.pairs, [&](int64_t from, int64_t to) {
        for (int64_t slot = from; slot < to; ++slot) packed.clear(slot);
    });
    for (int64_t pair = 0; pair < of.pairs; pair += packed.pairs) {
        const int64_t pairs = std::min(packed.pairs, of.pairs - pair);
        share(threads, pairs, [&](int64_t from, int64_t to) {
            for (int64_t slot = from; slot < to; ++slot) packed.fill(slot, x, grad, pair + slot);
        });
        share(threads, ceil_div(blocks, 2), [&](int64_t from, int64_t to) {
            add(packed, parts, pairs, 2 * from, std::min(blocks, 2 * to), together, sums[0].at, pair == 0);
        });
    }
    return sums;
}

}  // namespace

extern "C" {

// Whether this processor has matrix units for bf16 and the system lets this process use them.
int matrix_units() {
    constexpr long REQUEST_STATE = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) == 0;
}

// x, grad: bf16, channels last. to_weight: float, as the filters lie in channels-last memory.
void filter_gradient(int threads, const int64_t* numbers, const void* x, const void* grad, float* to_weight) {
    const Layout of(shape_of(numbers));
    const std::vector<Part> parts = parts_of(of);
    const int64_t of_block = (int64_t)parts.size() * SUMS, bytes = of.out / LANES * of_block * (int64_t)sizeof(float);
    const int64_t workers = std::min<int64_t>(threads, of.pairs);
    const auto sums = bytes * workers <= ALONE_MOST
                          ? sum_alone(of, parts, (const bf16*)x, (const bf16*)grad, workers)
                          : sum_together(of, parts, (const bf16*)x, (const bf16*)grad, threads);
    share(threads, of.out, [&](int64_t from, int64_t to) {
        for (int64_t out = from; out < to; ++out)
            for (int64_t tap = 0; tap < of.taps; ++tap)
                for (int64_t block = 0; block < of.blocks; ++block) {
                    const int64_t at = out / LANES * of_block + (tap * of.blocks + block) * SUMS + out % LANES * LANES;
                    __m512 sum = _mm512_load_ps(sums[0].at + at);
                    for (size_t i = 1; i < sums.size(); ++i) sum = _mm512_add_ps(sum, _mm512_load_ps(sums[i].at + at));
                    _mm512_mask_storeu_ps(to_weight + (out * of.taps + tap) * of.each + block * LANES,
                                          first(of.each - block * LANES), sum);
                }
    });
}
}

#else

extern "C" {
int matrix_units() { return 0; }
void filter_gradient(int, const int64_t*, const void*, const void*, float*) {}
}

#endif
