// Work on a device that is noted once and then repeated with a single call: launching the hundred
// kernels of a small network costs more than running them. What repeats reads and writes the memory
// that it had when it was noted.
#pragma once

#include <functional>
#include <memory>

namespace equicalc {

class Recording {
  public:
    virtual ~Recording() = default;
    // On the current stream.
    virtual void repeat() = 0;
};

// Filled in by whatever knows the device, see cuda/recording.cu; null without it.
struct Recorder {
    // Runs `work` once as usual and once to note what it launches, which does not run then. Work
    // must not wait for the device. `after`: an earlier recording that always runs before; both
    // share memory. Throws what `work` throws. `device`: its number; -1: the current one.
    static inline std::shared_ptr<Recording> (*record)(int device,
                                                       const std::shared_ptr<Recording> &after,
                                                       const std::function<void()> &work) = nullptr;
    // Whether what is launched from here now is only noted.
    static inline bool (*is_recording)() = nullptr;
};

// Forgets the rows of edges that operators keep (fused_ops.cpp): for lists whose memory now holds
// other edges, and for a recording, which must make its own.
void forget_rows();

}  // namespace equicalc
