// A bfloat16 is the upper half of a float.

#pragma once
#include <cstring>

#include "threads.h"

using bf16 = uint16_t;

constexpr int64_t STREAM = 16 << 20;  // bytes above which a tensor comes from memory, not from a cache

INLINE float as_float(float value) { return value; }
INLINE float as_float(bf16 value) {
    const uint32_t word = (uint32_t)value << 16;
    float f;
    std::memcpy(&f, &word, sizeof f);
    return f;
}
