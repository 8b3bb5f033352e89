// Discrete Fourier transforms of lines, many side by side: stage by stage (Stockham's algorithm),
// of radices 2 to 5, and slowly of any other prime.
#pragma once

#include <cstddef>
#include <vector>

namespace equicalc {

// Sums over j of a_j exp(-2 pi i j k / n), for lines of one length side by side.
template <class Real>
class LineTransform {
  public:
    // Lines side by side: two or more vector registers of real parts.
    static constexpr int kLanes = 64 / sizeof(Real);

    explicit LineTransform(int n);

    int size() const { return n_; }
    // Numbers of one buffer: real parts [n][kLanes], then imaginary parts.
    std::size_t buffer_size() const { return static_cast<std::size_t>(2) * n_ * kLanes; }
    // From one buffer, which is overwritten, to itself or to `other`; returns where the result is.
    // Backward, with the other sign in the exponent.
    Real *run(Real *values, Real *other, bool backward) const;

  private:
    struct Stage {
        int radix, rest;  // length n of this stage is their product
        int width;        // numbers side by side that take the same factors, in units of kLanes
        std::vector<Real>
            factors;              // [rest][radix - 1] real and imaginary part, of exp(-2 pi i pj/n)
        std::vector<Real> roots;  // of other radices: [radix] cosine and sine of 2 pi j / radix
    };
    int n_;
    std::vector<Stage> stages_;
};

}  // namespace equicalc
