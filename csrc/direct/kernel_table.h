// The table of all kernels. Included by the files that compile them, one for each kind of
// processor.
#pragma once

#include "direct/edge_loops.h"
#include "direct/fixed_loops.h"
#include "direct/full_loops.h"
#include "direct/node_loops.h"
#include "direct/scalar_loops.h"
#include "direct/transfer_loops.h"

namespace equicalc::direct::EQUICALC_ISA {

template <typename T>
Kernels<T> make() {
    return {&multiply<T>,
            &edge_records<T>,
            &edge_gradients<T>,
            &species_sum<T>,
            &species_sum_gradient<T>,
            &couple<T>,
            &couple_fixed<T>,
            &couple_fixed_gradient<T>,
            &weigh_rows<T>,
            &scalar_messages<T>,
            &scalar_messages_gradient<T>,
            &full_messages<T>,
            &full_messages_gradient<T>,
            &transfer<T>,
            &transfer_gradient<T>,
            &transfer_gradient_on_sender<T>,
            &silu<T>,
            &scale<T>};
}

template Kernels<float> make<float>();
template Kernels<double> make<double>();

}  // namespace equicalc::direct::EQUICALC_ISA
