// A convolution's values, and the gradient of its input, on bf16 matrix units (AMX): summed in float, rounded to bf16.
// `convolve_plan.h` says which products they are made of; here they are packed for, computed and stored.

#include "convolve_plan.h"

#ifdef HAS_TILES

namespace {

using namespace convolution;

// ---- packing ---------------------------------------------------------------------------------------------------------

void pack_row(const Plan& plan, const bf16* row, int64_t across, bf16* to) {
    const auto [begin, end] = within(plan.width, plan.line, plan.step, across - plan.left);
    const int64_t blocks = plan.blocks(), of_block = plan.places * PAIRED, of_place = plan.beside * PAIRED;
    const bf16* from = row + (plan.step * begin + across - plan.left) * plan.channels;
    const int64_t next = plan.step * plan.channels;
    to += begin * of_place;
    for (int64_t c = begin; c < end; ++c, from += next, to += of_place)
        for (int64_t block = 0; block < blocks; ++block)
            _mm512_store_si512(to + block * of_block, _mm512_loadu_si512(from + block * PAIRED));
}
void pack(const Plan& plan, const bf16* a, bf16* to) {  // a picture; what is padding stays zero
    const int64_t wide = std::min(plan.width, plan.step * plan.line - plan.left);  // the last one may be read by no tap
    for (int64_t plane = 0; plane < plan.planes_down * plan.planes_across; ++plane, to += plan.plane)
        for (int64_t r = 0; r < plan.lines; ++r) {
            const int64_t h = plan.step * r + plane / plan.planes_across - plan.top;
            if (h < 0 || h >= plan.height) continue;
            const bf16* row = a + h * plan.width * plan.channels;
            bf16* at = to + r * plan.line * plan.beside * plan.place;
            if (plan.narrow)
                std::memcpy(at + plan.left * plan.channels, row, wide * plan.channels * sizeof(bf16));
            else
                pack_row(plan, row, plane % plan.planes_across, at);
        }
}

// The filters as [16 channels of y][step][pair of channels of a][channel of y][channel of a].
void pack_filters(const Plan& plan, const Part& part, const bf16* filters, int64_t block, bf16* to) {
    const int64_t each = plan.filter_rows * plan.filter_columns;
    const int64_t of_a = plan.turned ? each * plan.out : 1, of_y = plan.turned ? 1 : each * plan.channels;
    for (const Step& step : part.steps) {
        const std::vector<Tap>& taps = part.runs[step.run].taps;
        const auto start = [&](int64_t tap, int64_t channel) {
            const Tap& at = taps[tap];
            return filters + (at.row * plan.filter_columns + at.column) * (plan.turned ? plan.out : plan.channels) +
                   channel * of_a + block * LANES * of_y;
        };
        if (plan.narrow) {
            for (int64_t k = 0; k < PAIRED; ++k) {
                const int64_t channel = step.first + k, tap = channel / plan.channels;
                const bool there = channel >= step.counts && tap < (int64_t)taps.size();
                const bf16* from = there ? start(tap, channel % plan.channels) : nullptr;
                for (int64_t n = 0; n < LANES; ++n) to[k / 2 * PAIRED + 2 * n + k % 2] = there ? from[n * of_y] : 0;
            }
        } else {
            const bf16* from = start(0, step.first);
            __m512i v[LANES];
            for (int64_t i = 0; i < LANES; ++i)
                v[i] = plan.turned ? zipped(from + 2 * i * of_a, from + (2 * i + 1) * of_a)
                                   : _mm512_loadu_si512(from + i * of_y);
            if (!plan.turned) transpose(v);
            for (int64_t i = 0; i < LANES; ++i) _mm512_store_si512(to + i * PAIRED, v[i]);
        }
        to += TILE;
    }
}

// ---- multiplying -----------------------------------------------------------------------------------------------------

INLINE __m512 plus(__m512 sums, const bf16* more) {
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)more));
    return _mm512_add_ps(sums, _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)));
}

// Sums that are still to be rounded and stored. That is done while the next ones are multiplied, so that matrix units
// need not wait for it.
struct Rest {
    const float* sums = nullptr;                        // rows of one tile, or of two that stand side by side
    const int64_t *where = nullptr, *where_end = nullptr;  // in y, of each row
    bf16* y = nullptr;
    const bf16* also = nullptr;  // what is added to y, where something is
    bool wide = false;
    bool far = false;  // y is too large for the caches: past them

    INLINE void store(int64_t count) {
        for (const int64_t* end = std::min(where_end, where + count); where < end; ++where) {
            const int64_t at = *where;
            const bool adds = also && at >= 0;
            const __m512 low = adds ? plus(_mm512_load_ps(sums), also + at) : _mm512_load_ps(sums);
            if (!wide) {
                if (at >= 0) _mm256_storeu_si256((__m256i*)(y + at), (__m256i)_mm512_cvtneps_pbh(low));
                sums += LANES;
                continue;
            }
            __m512 high = _mm512_load_ps(sums + LANES);
            if (adds) high = plus(high, also + at + LANES);
            const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
            sums += 2 * LANES;
            if (at >= 0) far ? _mm512_stream_si512((__m512i*)(y + at), both) : _mm512_storeu_si512(y + at, both);
        }
    }
};

// M tiles of places, at a and below, by N tiles of y's channels, `panel` bf16 from each other; sums: M by N tiles.
template <int M, int N>
AMX void multiply(const std::vector<Product>& products, int64_t bytes, const bf16* a, const bf16* below, const bf16* b,
                  int64_t panel, float* sums, Rest rest) {
    const int64_t each = ceil_div(rest.where_end - rest.where, std::max<int64_t>((int64_t)products.size(), 1));
    _tile_zero(0);
    if (N > 1) _tile_zero(1);
    if (M > 1) _tile_zero(2);
    if (M > 1 && N > 1) _tile_zero(3);
    for (const Product& product : products) {
        const bf16* filters = b + product.b;
        _tile_loadd(6, filters, ROW);
        _tile_loadd(4, a + product.a, bytes);
        _tile_dpbf16ps(0, 4, 6);
        if (N > 1) {
            _tile_loadd(7, filters + panel, ROW);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (M > 1) {
            _tile_loadd(5, below + product.a, bytes);
            _tile_dpbf16ps(2, 5, 6);
            if (N > 1) _tile_dpbf16ps(3, 5, 7);
        }
        rest.store(each);
    }
    rest.store(2 * LANES);
    _tile_stored(0, sums, N * ROW);
    if (N > 1) _tile_stored(1, sums + LANES, N * ROW);
    if (M > 1) _tile_stored(2, sums + N * SUMS, N * ROW);
    if (M > 1 && N > 1) _tile_stored(3, sums + N * SUMS + LANES, N * ROW);
}

struct Worker {  // a thread
    const Plan& plan;
    const std::vector<Buffer<bf16>>& filters;  // of each part
    const bool far;
    const bf16 *all_y, *also;  // the whole of y, and what is added to it
    alignas(64) float sums[2][4 * SUMS];  // those that are multiplied, and those that are stored
    int which = 0;
    Rest rest;

    // Two tiles of places, or the last one, of two blocks of y's channels, or of the last one.
    template <int M, int N> void sum(const Part& part, const bf16* a, const bf16* b, size_t tile, bf16* y) {
        const Tile &one = part.tiles[tile], &other = part.tiles[tile + M - 1];
        const auto& products = part.products[one.kind == other.kind ? one.kind : 0];
        which ^= 1;
        multiply<M, N>(products, plan.place * sizeof(bf16), a + one.place * plan.place, a + other.place * plan.place, b,
                       part.panel(), sums[which], rest);
        const int64_t* where = &part.where[tile * LANES];
        rest = {sums[which], where, where + M * LANES, y, also ? also + (y - all_y) : nullptr, N > 1, far};
    }
    void compute_tiles(const Part& part, const bf16* a, const bf16* b, size_t tile, int64_t block, bf16* y) {
        b += block * part.panel(), y += block * LANES;
        const bool two = plan.blocks_out() - block > 1;
        if (part.tiles.size() - tile > 1)
            two ? sum<2, 2>(part, a, b, tile, y) : sum<2, 1>(part, a, b, tile, y);
        else
            two ? sum<1, 2>(part, a, b, tile, y) : sum<1, 1>(part, a, b, tile, y);
    }

    // Sets that are packed behind one another, and y's channels of the blocks from `begin` to `end`. Few filters stay
    // near while places pass; else places stay.
    void compute_sets(int64_t sets, const bf16* a, bf16* y, int64_t begin, int64_t end) {
        for (size_t i = 0; i < plan.parts.size(); ++i) {
            const Part& part = plan.parts[i];
            const bool few = (end - begin) * part.panel() * (int64_t)sizeof(bf16) <= NEAR;
            const int64_t outer = few ? end - begin : 2;
            for (int64_t first = begin; first < end; first += outer)
                for (int64_t set = 0; set < sets; ++set)
                    for (size_t tile = 0; tile < part.tiles.size(); tile += 2)
                        for (int64_t block = first; block < std::min(first + outer, end); block += 2)
                            compute_tiles(part, a + set * plan.set, filters[i].at, tile, block,
                                          y + set * plan.beside * plan.of_y());
        }
    }

    // Of each set `splits` units, each with a share of y's channels.
    AMX void run(const bf16* a, bf16* y, int64_t begin, int64_t end, int64_t splits) {
        const int64_t bytes = plan.set * (int64_t)sizeof(bf16), pairs = plan.pairs_out();
        const int64_t most = splits > 1 ? 1 : std::clamp<int64_t>(NEAR / bytes, 1, end - begin);
        Buffer<bf16> packed(plan.direct ? 0 : most * plan.set);
        if (!plan.direct) std::memset(packed.at, 0, most * bytes);
        use_tiles();
        for (int64_t unit = begin; unit < end; unit += most) {
            const int64_t sets = std::min(most, end - unit), split = unit % splits;
            const int64_t picture = unit / splits * plan.beside;
            const bf16* from = a + picture * plan.of_a();
            for (int64_t i = 0; i < sets * plan.beside && !plan.direct; ++i)
                pack(plan, from + i * plan.of_a(), packed.at + i / plan.beside * plan.set + i % plan.beside * PAIRED);
            packed_for_tiles();
            compute_sets(sets, plan.direct ? from : packed.at, y + picture * plan.of_y(),
                         2 * (pairs * split / splits), std::min(2 * (pairs * (split + 1) / splits), plan.blocks_out()));
        }
        rest.store(2 * LANES);
        _tile_release();
        _mm_sfence();  // what went past the caches is there for other threads
    }
};

// Into how many shares y's channels go so that threads have about equally much to do.
int64_t splits_for(const Plan& plan, int threads) {
    int64_t splits = 1;
    const auto uneven = [&] {  // threads wait for more than a fifth of the time
        const int64_t units = plan.sets() * splits;
        return 5 * ceil_div(units, threads) * threads > 6 * units;
    };
    while (uneven() && splits < plan.pairs_out()) ++splits;
    return splits;
}

void compute(const Plan& plan, int threads, const bf16* a, const bf16* filters, bf16* y, const bf16* also) {
    std::vector<Buffer<bf16>> packed;
    for (const Part& part : plan.parts) {
        packed.emplace_back(plan.blocks_out() * part.panel());
        share(threads, plan.blocks_out(), [&](int64_t from, int64_t to) {
            for (int64_t block = from; block < to; ++block)
                pack_filters(plan, part, filters, block, packed.back().at + block * part.panel());
        });
    }
    const bool far = plan.pictures * plan.of_y() * (int64_t)sizeof(bf16) > STREAM && plan.out % PAIRED == 0 &&
                     (uintptr_t)y % ROW == 0;
    const int64_t splits = splits_for(plan, threads);
    share(threads, plan.sets() * splits,
          [&](int64_t from, int64_t to) { Worker{plan, packed, far, y, also}.run(a, y, from, to, splits); });
}

}  // namespace

extern "C" {

// x, filters, y: bf16, channels last.
void convolve(int threads, const int64_t* numbers, const void* x, const void* filters, void* y) {
    compute(*plan_of(numbers, false, threads), threads, (const bf16*)x, (const bf16*)filters, (bf16*)y, nullptr);
}

// grad, filters, to_x: bf16, channels last; `also`, which may be null, is added to to_x before it is rounded.
void input_gradient(int threads, const int64_t* numbers, const void* grad, const void* filters, const void* also,
                    void* to_x) {
    compute(*plan_of(numbers, true, threads), threads, (const bf16*)grad, (const bf16*)filters, (bf16*)to_x,
            (const bf16*)also);
}
}

#else

extern "C" {
void convolve(int, const int64_t*, const void*, const void*, void*) {}
void input_gradient(int, const int64_t*, const void*, const void*, const void*, void*) {}
}

#endif
