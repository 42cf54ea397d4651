// What a library's arithmetic is compiled for. Each compile has one of these types as SEGZOO_VARIANT, and defines the
// overload of its library's function that takes it; processor.h picks one.
#pragma once

namespace segzoo {

struct portable {
  static constexpr const char* name = "portable";
};

struct avx2 {
  static constexpr const char* name = "avx2";
};

struct avx512 {
  static constexpr const char* name = "avx512";
};

}  // namespace segzoo
