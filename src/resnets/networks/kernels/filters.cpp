// The gradient of a convolution's filters on bf16 matrix units (AMX): to_weight[o][i][j][c], the sum over pictures
// and places of grad[n][h][w][o] * x[n][stride * h + i - padding][stride * w + j - padding][c], in float.
//
// A matrix unit multiplies 16 output channels by 16 input channels over 16 places of two pictures at once, from
// tiles of 1 kB. Both tensors are packed for that, a pair of pictures at a time, each place's channels with those
// of the same place in the other picture: x as [16 channels][place][channel][picture], grad as
// [16 channels][16 places][channel][place][picture]. Places count through the padded rows of x; grad is zero where
// it has none. A filter's tap is then a shift of x by whole places, 64 bytes each: no tap needs a copy of its own.
// With a stride of 2, x is packed as planes of even and odd rows and columns, in which every tap is such a shift.
// Where x has few channels (a stem), those of a row of taps stand side by side in each place. Where maps are small,
// 16 pairs of pictures lie beside each other: a tile is then one place of all of them, and what a tap finds in the
// padding is not multiplied.

#include "tiles.h"

#ifdef HAS_TILES

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace {

constexpr int64_t PLACE = PAIRED;                 // bf16 of a place: 16 channels of two pictures
constexpr int64_t ALONE_MOST = 16 << 20;          // bytes of sums, of all threads, up to which each has its own
constexpr int64_t PACKED_MOST = 32 << 20;         // bytes that are packed at a time where threads share them
constexpr int64_t TILES_LEAST = 32;               // of places that are summed before the sums are put away
constexpr int64_t TILES_ALONE = 64;               // the same where each thread has its own sums
constexpr int64_t BESIDE_MOST = 8 << 20;          // bytes of 16 pairs of pictures that lie beside each other

// How a convolution is packed. Counts of packed elements are in bf16.
struct Layout : Shape {
    int64_t beside;           // pairs of pictures whose places are beside each other: 1 or 16; they make a set
    bool narrow;              // a row of taps is one tap, whose channels stand side by side
    int64_t taps, each;       // taps, and channels of one
    int64_t blocks;           // of 16 of these channels, the last one filled up
    int64_t planes_down, planes_across;
    int64_t line;             // places of a row
    int64_t lines;            // rows of a plane
    int64_t tiles;            // of 16 places of grad's, or of one place of 16 pairs
    int64_t places;           // of a plane, with those that the last tile of the last tap reads beyond it
    int64_t plane, x_set, grad_set, sets;

    Layout(const Shape& shape, int64_t beside) : Shape(shape), beside(beside) {
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
        tiles = beside > 1 ? out_height * out_width : ceil_div(out_height * line, LANES);
        const int64_t farthest = (rows - 1) / stride * line + (narrow ? 0 : (columns - 1) / stride);
        places = beside > 1 ? (lines * line + columns) * beside : std::max(tiles * LANES + farthest, lines * line);
        plane = places * blocks * PLACE;
        x_set = plane * planes_down * planes_across;
        grad_set = tiles * out / LANES * TILE;
        sets = ceil_div(pictures, 2 * beside);
    }

    int64_t bytes() const { return (x_set + grad_set) * (int64_t)sizeof(bf16); }  // of a set

    // Where the place (0, 0) of grad meets x at this tap, for a block of channels.
    int64_t start(int64_t tap, int64_t block) const {
        const int64_t i = narrow ? tap : tap / columns, j = narrow ? 0 : tap % columns;
        const int64_t which = i % stride * planes_across + j % stride;
        return which * plane + (block * places + (i / stride * line + j / stride) * beside) * PLACE;
    }

    // The rows of grad, or with `across` its columns, at which a tap meets the picture, not padding.
    Range met(int64_t tap, bool across) const {
        return across ? within(width, out_width, stride, tap % columns - padding)
                      : within(height, out_height, stride, tap / columns - padding);
    }

    int64_t products() const {  // of all pictures and 16 of grad's channels by 16 of x's
        if (beside == 1) return sets * tiles * taps;
        int64_t count = 0;
        for (int64_t tap = 0; tap < taps; ++tap) {
            const Range down = met(tap, false), right = met(tap, true);
            count += (down.end - down.begin) * (right.end - right.begin);
        }
        return sets * count;
    }
};

Layout layout_of(const Shape& shape) {  // the cheaper one
    const Layout alone(shape, 1), beside(shape, LANES);
    const bool can = !alone.narrow && shape.pictures % (2 * LANES) == 0 && beside.bytes() <= BESIDE_MOST;
    return can && beside.products() < alone.products() ? beside : alone;
}

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
    const auto [begin, end] = within(of.width, of.line, of.stride, across - of.padding);
    const int64_t from = (h * of.width + across - of.padding) * of.channels, step = of.stride * of.channels;
    const int64_t blocks = of.blocks, of_block = of.places * PLACE, of_place = of.beside * PLACE;
    for (int64_t near = begin; near < end; near += TOGETHER)
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t stop = std::min(end, near + TOGETHER);
            for (int64_t w = near; w < stop; ++w) {
                const int64_t at = from + w * step + block * LANES;
                _mm512_store_si512(to + block * of_block + w * of_place,
                                   zipped(x.one + at, x.other ? x.other + at : nullptr));
            }
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
                bf16* at = to + row * of.line * of.beside * PLACE;
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

// The places from `begin` to `end` of 16 pairs of pictures: a tile each.
void pack_grad_beside(const Layout& of, const bf16* all, int64_t set, int64_t begin, int64_t end, bf16* to,
                      int64_t panel) {
    const int64_t size = of.out_height * of.out_width * of.out;
    const bf16* grad = all + set * 2 * LANES * size;
    for (int64_t place = begin; place < end; ++place)
        for (int64_t block = 0; block < of.out / LANES; ++block) {
            __m512i v[LANES];
            for (int i = 0; i < LANES; ++i) {
                const bf16* from = grad + 2 * i * size + place * of.out + block * LANES;
                v[i] = zipped(from, from + size);
            }
            transpose(v);
            for (int i = 0; i < LANES; ++i) _mm512_store_si512(to + block * panel + place * TILE + i * PLACE, v[i]);
        }
}

// Sets, packed behind one another.
struct Packed {
    const Layout& of;
    int64_t sets, panel;
    Buffer<bf16> x, grad;
    Packed(const Layout& of, int64_t sets)
        : of(of), sets(sets), panel(sets * of.tiles * TILE), x(sets * of.x_set), grad(sets * of.grad_set) {}
    void clear(int64_t slot) { std::memset(x.at + slot * of.x_set, 0, of.x_set * sizeof(bf16)); }
    void fill(int64_t slot, const bf16* all_x, const bf16* all_grad, int64_t set, int64_t pair) {  // a pair's share
        pack_x(of, all_x, set * of.beside + pair, x.at + slot * of.x_set + pair * PLACE);
        bf16* to = grad.at + slot * of.tiles * TILE;
        if (of.beside == 1)
            pack_grad(of, all_grad, set, to, panel);
        else
            pack_grad_beside(of, all_grad, set, of.tiles * pair / LANES, of.tiles * (pair + 1) / LANES, to, panel);
    }
    static int64_t sets_in(const Layout& of, int64_t bytes, int64_t most) {
        return std::clamp<int64_t>(bytes / of.bytes(), 1, most);
    }
};

// ---- multiplying -----------------------------------------------------------------------------------------------------

struct Run {  // of tiles that are summed: in each set some rows, in each row some tiles that follow one another
    int64_t sets, rows, tiles;
    int64_t x_set, grad_set, x_row, grad_row;  // bf16 from one to the next
    bool fresh;                                // the sums begin here
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
    for (int64_t set = 0; set < run.sets; ++set)
        for (int64_t row = 0; row < run.rows; ++row) {
            const int64_t in_x = set * run.x_set + row * run.x_row, in_grad = set * run.grad_set + row * run.grad_row;
            const bf16 *g0 = grad[0] + in_grad, *g1 = M > 1 ? grad[1] + in_grad : nullptr;
            const bf16 *x0 = x[0] + in_x, *x1 = N > 1 ? x[1] + in_x : nullptr;
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
    int64_t x, sums, tap;
};
std::vector<Part> parts_of(const Layout& of) {
    std::vector<Part> parts;
    const auto add = [&](int64_t tap, int64_t block) {
        parts.push_back({of.start(tap, block), (tap * of.blocks + block) * SUMS, tap});
    };
    const int64_t step = of.beside > 1 ? 2 : 1;  // two blocks of a tap meet padding in the same places
    for (int64_t block = 0; block < of.blocks; block += step)
        for (int64_t tap = 0; tap < of.taps; ++tap)  // neighbours read almost the same
            for (int64_t i = block; i < std::min(block + step, of.blocks); ++i) add(tap, i);
    return parts;
}

// Adds, in the sums of grad's channels of the blocks from `begin` to `end`.
struct Adder {
    const Packed& packed;
    const std::vector<Part>& parts;
    int64_t begin, end;
    float* sums;

    // x and grad: bf16 from the beginning of what is packed, and of a panel of it.
    void add(const Run& run, int64_t x, int64_t grad, int64_t block, size_t part) const {
        const int64_t of_block = (int64_t)parts.size() * SUMS;
        const bool two = block + 1 < end, wide = part + 1 < parts.size();
        const Part &a = parts[part], &b = parts[wide ? part + 1 : part];
        const bf16 *from = packed.x.at + x, *at = packed.grad.at + block * packed.panel + grad;
        const bf16 *xs[] = {from + a.x, from + b.x}, *grads[] = {at, at + packed.panel};
        float *upper = sums + block * of_block, *lower = upper + of_block;
        float* four[] = {upper + a.sums, upper + b.sums, lower + a.sums, lower + b.sums};
        float* column[] = {upper + a.sums, lower + a.sums};
        if (wide)
            (two ? multiply<2, 2> : multiply<1, 2>)(run, grads, xs, four);
        else
            (two ? multiply<2, 1> : multiply<1, 1>)(run, grads, xs, column);
    }

    // Some tiles of some sets, for all sums.
    void add_all(int64_t set, int64_t sets, int64_t tile, int64_t tiles, bool fresh) const {
        const Layout& of = packed.of;
        const Run run{sets, 1, tiles, of.x_set, of.tiles * TILE, 0, 0, fresh};
        for (int64_t block = begin; block < end; block += 2)
            for (size_t part = 0; part < parts.size(); part += 2)
                add(run, set * of.x_set + tile * TILE, (set * of.tiles + tile) * TILE, block, part);
    }

    // Sets of pairs that are beside each other: of each tap the places that meet the picture.
    void add_met(int64_t set, int64_t sets, bool fresh) const {
        const Layout& of = packed.of;
        for (size_t part = 0; part < parts.size(); part += 2) {
            const bool same = part + 1 == parts.size() || parts[part + 1].tap == parts[part].tap;
            const Range all_down{0, of.out_height}, all_right{0, of.out_width};
            const auto down = same ? of.met(parts[part].tap, false) : all_down;
            const auto right = same ? of.met(parts[part].tap, true) : all_right;
            const int64_t rows = down.end - down.begin, tiles = right.end - right.begin;
            const Run run{sets, rows, tiles, of.x_set, of.tiles * TILE, of.line * TILE,
                          of.out_width * TILE, fresh};
            for (int64_t block = begin; block < end; block += 2)
                add(run, set * of.x_set + (down.begin * of.line + right.begin) * TILE,
                    (set * of.tiles + down.begin * of.out_width + right.begin) * TILE, block, part);
        }
    }

    // What is packed in the first `sets` slots, about `together` tiles at a time.
    AMX void run(int64_t sets, int64_t together, bool fresh) const {
        const Layout& of = packed.of;
        const int64_t tiles = std::min(of.tiles, together), group = std::max<int64_t>(1, together / of.tiles);
        use_tiles();
        packed_for_tiles();
        for (int64_t set = 0; set < sets; set += group) {
            const int64_t some = std::min(group, sets - set);
            if (of.beside > 1)
                add_met(set, some, fresh && set == 0);
            else
                for (int64_t tile = 0; tile < of.tiles; tile += tiles)
                    add_all(set, some, tile, std::min(tiles, of.tiles - tile), fresh && set == 0 && tile == 0);
        }
        _tile_release();
    }
};

// Every thread packs and sums sets of its own: for few filters, whose sums all stay near.
std::vector<Buffer<float>> sum_alone(const Layout& of, const std::vector<Part>& parts, const bf16* x, const bf16* grad,
                                     int64_t workers) {
    const int64_t blocks = of.out / LANES, count = blocks * (int64_t)parts.size() * SUMS;
    std::vector<Buffer<float>> sums;
    for (int64_t i = 0; i < workers; ++i) sums.emplace_back(count);
    share((int)workers, workers, [&](int64_t from, int64_t to) {
        for (int64_t worker = from; worker < to; ++worker) {
            const int64_t begin = of.sets * worker / workers, end = of.sets * (worker + 1) / workers;
            const int64_t most = of.beside > 1 ? std::max<int64_t>(1, TILES_ALONE / of.tiles) : end - begin;
            Packed packed(of, Packed::sets_in(of, of.beside > 1 ? PACKED_MOST : NEAR, std::min(most, end - begin)));
            for (int64_t slot = 0; slot < packed.sets; ++slot) packed.clear(slot);
            for (int64_t set = begin; set < end; set += packed.sets) {
                const int64_t sets = std::min(packed.sets, end - set);
                for (int64_t unit = 0; unit < sets * of.beside; ++unit)
                    packed.fill(unit / of.beside, x, grad, set + unit / of.beside, unit % of.beside);
                Adder{packed, parts, 0, blocks, sums[worker].at}.run(sets, TILES_ALONE, set == begin);
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
    Packed packed(of, Packed::sets_in(of, PACKED_MOST, of.sets));
    share(threads, packed.sets, [&](int64_t from, int64_t to) {
        for (int64_t slot = from; slot < to; ++slot) packed.clear(slot);
    });
    for (int64_t set = 0; set < of.sets; set += packed.sets) {
        const int64_t sets = std::min(packed.sets, of.sets - set);
        share(threads, sets * of.beside, [&](int64_t from, int64_t to) {
            for (int64_t unit = from; unit < to; ++unit)
                packed.fill(unit / of.beside, x, grad, set + unit / of.beside, unit % of.beside);
        });
        share(threads, ceil_div(blocks, 2), [&](int64_t from, int64_t to) {
            Adder{packed, parts, 2 * from, std::min(blocks, 2 * to), sums[0].at}.run(sets, together, set == 0);
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
    const Layout of = layout_of(shape_of(numbers));
    const std::vector<Part> parts = parts_of(of);
    const int64_t of_block = (int64_t)parts.size() * SUMS, bytes = of.out / LANES * of_block * (int64_t)sizeof(float);
    const int64_t workers = std::min<int64_t>(threads, of.sets);
    const bool even = of.beside == 1 || of.sets % threads == 0;
    const auto sums = even && bytes * workers <= ALONE_MOST
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
