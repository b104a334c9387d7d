// Vectors of the widest kind the instruction set has, as compilers' vector extensions, and the two
// functions the scan needs of them. Included once per instruction set, inside its namespace, with
// MMQUAD_BYTES as its vectors' size.

#define MMQUAD_INLINE inline __attribute__((always_inline))

template <typename T>
struct Simd {
  typedef T V __attribute__((vector_size(MMQUAD_BYTES), aligned(alignof(T)), may_alias));
  static constexpr int kLanes = MMQUAD_BYTES / sizeof(T);
  static constexpr int kVectors = kBlock / kLanes;  // vectors in a block of channels
};

template <typename T>
using Vec = typename Simd<T>::V;

template <typename T>
MMQUAD_INLINE Vec<T>& at(T* p, int vector) {
  return *reinterpret_cast<Vec<T>*>(p + vector * Simd<T>::kLanes);
}

template <typename T>
MMQUAD_INLINE const Vec<T>& at(const T* p, int vector) {
  return *reinterpret_cast<const Vec<T>*>(p + vector * Simd<T>::kLanes);
}

template <typename T>
MMQUAD_INLINE Vec<T> splat(T value) {
  return Vec<T>{} + value;
}

// exp2 to about 1 ulp: 2^n from the exponent bits, 2^f by a polynomial that is exactly 1 at 0, so
// that decays close to 1 keep their digits over long sequences. NaN stays NaN.
MMQUAD_INLINE Vec<float> exp2(Vec<float> v) {
  typedef int32_t I __attribute__((vector_size(MMQUAD_BYTES), aligned(4), may_alias));
  v = v < splat(-126.0f) ? splat(-126.0f) : v;
  v = v > splat(128.0f) ? splat(128.0f) : v;
  const Vec<float> shifted = v + 12582912.0f;  // 1.5 * 2^23: the integer part in the low bits
  const Vec<float> f = v - (shifted - 12582912.0f);
  Vec<float> p = splat(1.53533619e-4f);
  p = p * f + 1.33988747e-3f;
  p = p * f + 9.61843736e-3f;
  p = p * f + 5.55033247e-2f;
  p = p * f + 2.40226479e-1f;
  p = p * f + 6.93147203e-1f;
  p = p * f + 1.0f;
  return reinterpret_cast<Vec<float>>(reinterpret_cast<I>(p) + (reinterpret_cast<I>(shifted) << 23));
}

MMQUAD_INLINE Vec<double> exp2(Vec<double> v) {
  Vec<double> result = v;
  for (int i = 0; i < Simd<double>::kLanes; ++i) result[i] = std::exp2(v[i]);
  return result;
}

// softplus(raw) = max(raw, 0) + log1p(exp(-|raw|)), and its derivative, the sigmoid.
template <typename T>
struct Step {
  Vec<T> delta, slope;
};

template <typename T>
MMQUAD_INLINE Vec<T> log1p_of_fraction(Vec<T> e);

// 2 atanh(s) with s = e / (2 + e): every digit for tiny e, and s^2 <= 1/9 makes the series short.
template <>
MMQUAD_INLINE Vec<float> log1p_of_fraction<float>(Vec<float> e) {
  const Vec<float> s = e / (e + 2.0f);
  const Vec<float> q = s * s;
  Vec<float> p = splat(1.0f / 15);
  p = p * q + 1.0f / 13;
  p = p * q + 1.0f / 11;
  p = p * q + 1.0f / 9;
  p = p * q + 1.0f / 7;
  p = p * q + 1.0f / 5;
  p = p * q + 1.0f / 3;
  return 2.0f * (s + s * q * p);
}

template <>
MMQUAD_INLINE Vec<double> log1p_of_fraction<double>(Vec<double> e) {
  Vec<double> result = e;
  for (int i = 0; i < Simd<double>::kLanes; ++i) result[i] = std::log1p(e[i]);
  return result;
}

template <typename T>
MMQUAD_INLINE Step<T> softplus(Vec<T> raw) {
  constexpr T log2e = T(1.4426950408889634);
  const Vec<T> zero = splat(T(0));
  const Vec<T> magnitude = raw < zero ? -raw : raw;
  const Vec<T> e = exp2(-magnitude * log2e);
  const Vec<T> inverse = T(1) / (e + T(1));
  return {(raw < zero ? zero : raw) + log1p_of_fraction<T>(e), raw < zero ? e * inverse : inverse};
}

// Sums over the lanes of kLanes vectors at once, by halving them pairwise.
template <typename T>
MMQUAD_INLINE Vec<T> add_pairs(Vec<T> a, Vec<T> b);

#define MMQUAD_ADD_PAIRS(T, I)                                                        \
  template <>                                                                         \
  MMQUAD_INLINE Vec<T> add_pairs<T>(Vec<T> a, Vec<T> b) {                             \
    typedef I M __attribute__((vector_size(MMQUAD_BYTES)));                           \
    M even;                                                                           \
    for (int i = 0; i < Simd<T>::kLanes; ++i) even[i] = 2 * i;                        \
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, even + 1);         \
  }
MMQUAD_ADD_PAIRS(float, int32_t)
MMQUAD_ADD_PAIRS(double, int64_t)
#undef MMQUAD_ADD_PAIRS

template <typename T, int count>
MMQUAD_INLINE Vec<T> lane_sums(const Vec<T>* rows) {
  if constexpr (count == 1) {
    return rows[0];
  } else {
    return add_pairs<T>(lane_sums<T, count / 2>(rows), lane_sums<T, count / 2>(rows + count / 2));
  }
}
