#include "pair_equicalc_kokkos.h"

#include "atom_kokkos.h"
#include "atom_masks.h"
#include "error.h"
#include "force.h"
#include "kokkos.h"
#include "kspace.h"

using namespace LAMMPS_NS;

PairEquicalcKokkos::PairEquicalcKokkos(LAMMPS *lmp) : PairEquicalc(lmp) {
    if (lmp->kokkos == nullptr || lmp->kokkos->kokkos_exists == 0) {
        error->all(FLERR,
                   "pair_style equicalc/kk needs KOKKOS, which this run was started without. Start "
                   "'lmp -k on t 4 -sf kk', or type 'pair_style equicalc'");
    }
    kokkosable = 1;
    // LAMMPS' own arrays on the host; features of ghosts therefore travel from there as well.
    execution_space = Host;
    datamask_read = X_MASK | F_MASK | TAG_MASK | TYPE_MASK | MASK_MASK | IMAGE_MASK | Q_MASK;
    datamask_modify = F_MASK | Q_MASK;
}

void PairEquicalcKokkos::init_style() {
    if (force->newton_pair == 0) {
        error->all(FLERR,
                   "pair_style equicalc/kk sends forces back to the owners of ghost atoms, found "
                   "'newton off'. Start 'lmp -k on ... -pk kokkos neigh half newton on'");
    }
    PairEquicalc::init_style();
    // Overlap adds what styles on the device and on the host give, each from zero. Here forces of
    // KSPACE on the device are part of those on the host.
    lmp->kokkos->allow_overlap = 0;
}

// What the integrators of KOKKOS do around a KSPACE style.
void PairEquicalcKokkos::run_kspace(int eflag, int vflag) {
    KSpace *kspace = force->kspace;
    auto *atoms = static_cast<AtomKokkos *>(atom);
    atoms->modified(Host, F_MASK | Q_MASK);
    const int before = lmp->kokkos->auto_sync;
    if (kspace->execution_space == Host) {
        // In tilted boxes it asks for scaled positions, which KOKKOS computes: written through to
        // the arrays that it reads.
        lmp->kokkos->auto_sync = 1;
    }
    atoms->sync(kspace->execution_space, kspace->datamask_read);
    PairEquicalc::run_kspace(eflag, vflag);
    lmp->kokkos->auto_sync = before;
    // An ordinary style names all masks, those of positions included, none of which it changed.
    atoms->modified(kspace->execution_space, F_MASK);
    atoms->sync(Host, X_MASK | F_MASK);
}
