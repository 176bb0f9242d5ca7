// Torch's own threads, through the functions of the OpenMP library that it has loaded.

#pragma once
#include <cstdint>

#define INLINE inline __attribute__((always_inline))

using Task = void (*)(void*);
inline void (*start_team)(Task, void*, unsigned, unsigned);
inline int (*member)();
inline int (*members)();

template <class F> struct Team {
    const F& work;
    int64_t items;
};

template <class F> void share(int threads, int64_t items, const F& work) {  // work(first, end)
    if (threads <= 1 || items <= 1) return work(0, items);
    Team<F> team{work, items};
    Task task = [](void* data) {
        auto& team = *static_cast<Team<F>*>(data);
        const int64_t n = members(), me = member();
        const int64_t first = team.items * me / n, end = team.items * (me + 1) / n;
        if (first < end) team.work(first, end);
    };
    start_team(task, &team, (unsigned)(threads < items ? threads : items), 0);
}
