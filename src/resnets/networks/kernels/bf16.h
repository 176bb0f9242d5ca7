// A bfloat16 is the upper half of a float.

#pragma once
#include <cstring>

#include "threads.h"

using bf16 = uint16_t;

INLINE float as_float(float value) { return value; }
INLINE float as_float(bf16 value) {
    const uint32_t word = (uint32_t)value << 16;
    float f;
    std::memcpy(&f, &word, sizeof f);
    return f;
}
