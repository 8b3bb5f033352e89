// Recordings as CUDA graphs.
#include "model/recording.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>

#include <map>
#include <mutex>

namespace equicalc {
namespace {

struct CudaRecording : Recording {
    at::cuda::CUDAGraph graph;
    std::shared_ptr<Recording> before;  // whose memory this one shares

    void repeat() override { graph.replay(); }
};

// One stream for all recordings of a device: libraries keep memory for each stream that they see.
at::cuda::CUDAStream recording_stream(c10::DeviceIndex device) {
    static std::mutex mutex;
    static auto *streams = new std::map<c10::DeviceIndex, at::cuda::CUDAStream>;
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = streams->find(device);
    if (found != streams->end()) {
        return found->second;
    }
    return streams->emplace(device, at::cuda::getStreamFromPool(false, device)).first->second;
}

std::shared_ptr<Recording> record(int device, const std::shared_ptr<Recording> &after,
                                  const std::function<void()> &work) {
    const auto number =
        device < 0 ? c10::cuda::current_device() : static_cast<c10::DeviceIndex>(device);
    const c10::cuda::CUDAGuard on_device(number);
    const auto stream = recording_stream(number);
    c10::cuda::device_synchronize();
    const c10::cuda::CUDAStreamGuard on_stream(stream);
    work();  // libraries that start now need memory, and constants go to the host
    stream.synchronize();
    auto recording = std::make_shared<CudaRecording>();
    recording->before = after;
    const auto pool =
        after ? static_cast<CudaRecording &>(*after).graph.pool() : at::cuda::graph_pool_handle();
    // other threads, which have work of their own, are not to be disturbed
    recording->graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    try {
        work();
    } catch (...) {
        try {
            recording->graph.capture_end();
        } catch (const std::exception &) {
            // of the work that failed
            (void)cudaGetLastError();
        }
        throw;
    }
    recording->graph.capture_end();
    return recording;
}

bool is_recording() {
    return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}

const bool kAdded = [] {
    Recorder::record = &record;
    Recorder::is_recording = &is_recording;
    return true;
}();

}  // namespace
}  // namespace equicalc
