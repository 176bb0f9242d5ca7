#include "threads.h"

extern "C" void use_threads(void* start, void* number, void* count) {
    start_team = reinterpret_cast<decltype(start_team)>(start);
    member = reinterpret_cast<decltype(member)>(number);
    members = reinterpret_cast<decltype(members)>(count);
}
