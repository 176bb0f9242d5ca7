// How `convolve.cpp` computes a convolution's values, or the gradient of its input, by products of tiles.
//
// Both are sums over taps of products of channels, y[h][w] = sum of a[h + tap.down][w + tap.across] * filters[tap]:
// the values with a = x, the gradient with a = grad and the filters turned over. With a stride of 2 every tap of the
// values reads one of four planes, the even and odd rows and columns of x; of the gradient the even and odd rows and
// columns are four sums of their own, each with its own taps.
//
// A product is of 16 places by 32 channels with 32 channels by 16 channels of y. Pictures are packed with their padding
// as [32 channels][place][channel], so that 16 places that follow one another are a tile, also over the ends of rows
// (what stands there in y is not stored), and a tap is a shift by whole places. Where maps are small that leaves much
// out, so there 16 pictures lie beside each other: a tile is one place of all of them, and a tap that meets padding is
// no product. Where channels do not fill 32, a place is just its channels, and those of a row of taps, which stand
// side by side, are multiplied at once. Filters of 1 by 1 read pictures as they lie.

#pragma once
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "tiles.h"

#ifdef HAS_TILES

namespace convolution {

constexpr size_t PLANS_MOST = 256;  // that are kept
constexpr int64_t BESIDE_MOST = 2 << 20;  // bytes of 16 pictures that lie beside each other

struct Tap {
    int64_t plane_down, plane_across;  // which plane of the packed pictures
    int64_t down, across;              // in its places
    int64_t row, column;               // of the filter
};

// Taps that are multiplied at once: those of a row where places are narrow, else one.
struct Run {
    int64_t at;  // bf16 from the place that is computed to the first tap
    std::vector<Tap> taps;
};

// 32 channels of a run: one tile of filters. Of the last ones, those before `counts` were in the tile before it.
struct Step {
    size_t run;
    int64_t first, counts;
};

// What is added to a tile of sums: bf16 from its first place to what is multiplied, and from the first filters.
struct Product {
    int64_t a, b;
};

// 16 packed places that are computed at once.
struct Tile {
    int64_t place, kind;  // the first one; which taps meet more than padding
};

// Places of y that have the same taps: all, or those of every second row and column.
struct Part {
    int64_t h, w, step;     // the first one in y, and the distance to the next
    int64_t rows, columns;  // of places
    std::vector<Tap> taps;
    std::vector<Run> runs;
    std::vector<Step> steps;
    std::vector<std::vector<Product>> products;  // by kind; the first one is of all taps
    std::vector<Tile> tiles;
    std::vector<int64_t> where;  // of each row of each tile: in y, or -1

    int64_t panel() const { return (int64_t)steps.size() * TILE; }  // bf16 of the filters of 16 channels of y
};

struct Plan {
    int64_t pictures, height, width, channels;  // of a
    int64_t out_height, out_width, out;         // of y
    int64_t filter_rows, filter_columns;
    int64_t step, top, left;  // distance of a plane's rows and columns; rows and columns of padding
    bool turned;              // the filters lie as [channel of a][row][column][channel of y], else the other way
    int64_t planes_down = 1, planes_across = 1;
    std::vector<Part> parts;
    bool direct = false, narrow = false;
    int64_t beside = 1;             // pictures whose places are beside each other: 1 or 16; they make a set
    int64_t line = 0, lines = 0;    // columns and rows of a plane; a row's padding on the left is the last one's right
    int64_t place = 0;              // bf16 from a place to the next
    int64_t places = 0, plane = 0;  // places, and bf16, of a plane
    int64_t set = 0;                // bf16 of a set

    int64_t blocks() const { return ceil_div(channels, PAIRED); }
    int64_t blocks_out() const { return out / LANES; }
    int64_t pairs_out() const { return ceil_div(blocks_out(), 2); }
    int64_t sets() const { return pictures / beside; }
    int64_t of_a() const { return height * width * channels; }  // of a picture
    int64_t of_y() const { return out_height * out_width * out; }
    int64_t products() const;  // of all pictures and 16 channels of y
};

inline Plan values(const Shape& of) {
    Plan plan{of.pictures,  of.height, of.width,   of.channels, of.out_height,
              of.out_width, of.out,    of.rows,    of.columns,  of.stride,
              of.padding,   of.padding, false};
    plan.planes_down = std::min(of.stride, of.rows), plan.planes_across = std::min(of.stride, of.columns);
    Part all{0, 0, 1, of.out_height, of.out_width};
    for (int64_t i = 0; i < of.rows; ++i)
        for (int64_t j = 0; j < of.columns; ++j)
            all.taps.push_back({i % of.stride, j % of.stride, i / of.stride, j / of.stride, i, j});
    plan.parts.push_back(all);
    return plan;
}

inline Plan input_gradient(const Shape& of) {
    const int64_t top = (of.rows - 1 - of.padding) / of.stride, left = (of.columns - 1 - of.padding) / of.stride;
    Plan plan{of.pictures, of.out_height, of.out_width, of.out, of.height, of.width, of.channels, of.rows,
              of.columns,  1,             top,          left,   true};
    for (int64_t h = 0; h < of.stride; ++h)
        for (int64_t w = 0; w < of.stride; ++w) {
            Part part{h, w, of.stride, ceil_div(of.height - h, of.stride), ceil_div(of.width - w, of.stride)};
            for (int64_t i = of.rows - 1; i >= 0; --i)
                for (int64_t j = of.columns - 1; j >= 0; --j) {
                    const int64_t down = h + of.padding - i, across = w + of.padding - j;
                    if (down % of.stride == 0 && across % of.stride == 0)
                        part.taps.push_back({0, 0, down / of.stride + top, across / of.stride + left, i, j});
                }
            if (part.rows > 0 && part.columns > 0) plan.parts.push_back(part);
        }
    return plan;
}

inline void measure(Plan& plan) {
    const bool point = plan.filter_rows * plan.filter_columns * plan.step == 1 && plan.parts.size() == 1;
    plan.narrow = plan.channels % PAIRED != 0;
    plan.direct = point && plan.top == 0 && !plan.narrow && plan.height * plan.width % LANES == 0;
    if (plan.narrow) plan.planes_across = 1;
    int64_t down = 0, across = 0;  // rows and columns that are read
    for (const Part& part : plan.parts) {
        down = std::max(down, part.rows), across = std::max(across, part.columns);
        for (const Tap& tap : part.taps)
            down = std::max(down, part.rows + tap.down), across = std::max(across, part.columns + tap.across);
    }
    plan.line = plan.step == 1 ? std::max(plan.left + plan.width, across - plan.left) : across;
    plan.lines = down;
    plan.place = plan.direct ? plan.channels : plan.narrow ? plan.step * plan.channels : PAIRED;
    plan.places = plan.lines * plan.line * plan.beside;
    for (const Part& part : plan.parts)  // the last tile's last tap reads beyond
        for (const Tap& tap : part.taps) {
            const int64_t count = (part.rows - 1) * plan.line + part.columns;
            const int64_t end = plan.beside > 1 ? count * plan.beside : ceil_div(count, LANES) * LANES;
            plan.places = std::max(plan.places, end + (tap.down * plan.line + tap.across) * plan.beside);
        }
    const int64_t blocks = plan.narrow ? 1 : plan.blocks(), beyond = plan.narrow ? 2 * PAIRED : 0;
    plan.plane = plan.direct ? plan.of_a() : ceil_div(blocks * plan.places * plan.place + beyond, PAIRED) * PAIRED;
    plan.set = plan.planes_down * plan.planes_across * plan.plane;
}

// Which taps of a place meet the picture, not padding; only asked where each tile is one place.
inline std::vector<bool> met(const Plan& plan, const Part& part, int64_t r, int64_t c) {
    std::vector<bool> which;
    for (const Tap& tap : part.taps) {
        const int64_t h = plan.step * (r + tap.down) + tap.plane_down - plan.top;
        const int64_t w = plan.step * (c + tap.across) + tap.plane_across - plan.left;
        which.push_back(h >= 0 && h < plan.height && w >= 0 && w < plan.width);
    }
    return which;
}

inline void place_tiles(const Plan& plan, Part& part, std::vector<std::vector<bool>>& kinds) {
    const auto in_y = [&](int64_t r, int64_t c) {
        return ((part.h + r * part.step) * plan.out_width + part.w + c * part.step) * plan.out;
    };
    kinds.push_back(std::vector<bool>(part.taps.size(), true));
    if (plan.beside == 1) {
        const int64_t tiles = ceil_div((part.rows - 1) * plan.line + part.columns, LANES);
        for (int64_t i = 0; i < tiles; ++i) part.tiles.push_back({i * LANES, 0});
        part.where.assign(tiles * LANES, -1);
        for (int64_t r = 0; r < part.rows; ++r)
            for (int64_t c = 0; c < part.columns; ++c) part.where[r * plan.line + c] = in_y(r, c);
        return;
    }
    for (int64_t r = 0; r < part.rows; ++r)
        for (int64_t c = 0; c < part.columns; ++c) {
            const auto kind = std::find(kinds.begin(), kinds.end(), met(plan, part, r, c)) - kinds.begin();
            if (kind == (int64_t)kinds.size()) kinds.push_back(met(plan, part, r, c));
            part.tiles.push_back({(r * plan.line + c) * plan.beside, kind});
        }
    std::stable_sort(part.tiles.begin(), part.tiles.end(),
                     [](const Tile& a, const Tile& b) { return a.kind < b.kind; });
    for (const Tile& tile : part.tiles) {
        const int64_t place = tile.place / plan.beside;
        for (int64_t picture = 0; picture < plan.beside; ++picture)
            part.where.push_back(picture * plan.of_y() + in_y(place / plan.line, place % plan.line));
    }
}

inline void list_products(const Plan& plan, Part& part, const std::vector<std::vector<bool>>& kinds) {
    for (const Tap& tap : part.taps) {
        const bool joins = plan.narrow && !part.runs.empty() && part.runs.back().taps.back().row == tap.row;
        if (!joins) {
            const int64_t plane = tap.plane_down * plan.planes_across + (plan.narrow ? 0 : tap.plane_across);
            const int64_t shift = (tap.down * plan.line + tap.across) * plan.beside;
            part.runs.push_back({plane * plan.plane + shift * plan.place, {}});
        }
        part.runs.back().taps.push_back(tap);
    }
    part.products.resize(kinds.size());
    const int64_t longest = plan.narrow ? plan.filter_columns * plan.channels : plan.channels;
    for (int64_t counts = 0; counts < longest; counts += PAIRED)  // taps of the same channels are near
        for (size_t i = 0; i < part.runs.size(); ++i) {
            const int64_t length = (int64_t)part.runs[i].taps.size() * plan.channels;
            if (counts >= length) continue;
            // Not beyond the run, if it is long enough: zero filters would not hide what is no number there.
            const int64_t first = std::max<int64_t>(0, std::min(counts, length - PAIRED));
            const int64_t at = plan.narrow || plan.direct ? first : first * plan.places;
            for (size_t kind = 0; kind < kinds.size(); ++kind)
                if (plan.narrow || kinds[kind][i])
                    part.products[kind].push_back({part.runs[i].at + at, part.panel()});
            part.steps.push_back({i, first, counts});
        }
}

inline Plan laid_out(Plan plan, int64_t beside) {
    plan.beside = beside;
    measure(plan);
    for (Part& part : plan.parts) {
        std::vector<std::vector<bool>> kinds;
        place_tiles(plan, part, kinds);
        list_products(plan, part, kinds);
    }
    return plan;
}

inline int64_t Plan::products() const {
    int64_t count = 0;
    for (const Part& part : parts)
        for (const Tile& tile : part.tiles) count += (int64_t)part.products[tile.kind].size();
    return count * sets();
}

// The cheaper way for this many threads.
inline Plan laid_out(const Plan& plan, int threads) {
    Plan alone = laid_out(plan, (int64_t)1), sixteen = plan;
    sixteen.beside = LANES;
    measure(sixteen);
    const bool near = sixteen.set * (int64_t)sizeof(bf16) <= BESIDE_MOST;
    if (alone.narrow || alone.direct || plan.pictures % (LANES * threads) != 0 || !near) return alone;
    sixteen = laid_out(plan, LANES);
    return sixteen.products() < alone.products() ? sixteen : alone;
}

// The same convolutions come again with every step.
inline std::shared_ptr<const Plan> plan_of(const int64_t* numbers, bool gradient, int threads) {
    static std::mutex guard;
    static std::map<std::vector<int64_t>, std::shared_ptr<const Plan>> plans;
    std::vector<int64_t> key(numbers, numbers + sizeof(Shape) / sizeof(int64_t));
    key.push_back(gradient), key.push_back(threads);
    const std::lock_guard<std::mutex> lock(guard);
    auto& plan = plans[key];
    if (!plan) {
        if (plans.size() > PLANS_MOST) plans.clear();
        const Shape shape = shape_of(numbers);
        const Plan asked = gradient ? input_gradient(shape) : values(shape);
        return plans[key] = std::make_shared<const Plan>(laid_out(asked, threads));
    }
    return plan;
}

}  // namespace convolution

#endif
