#include "model/archive.h"

#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>

#include "equicalc.h"

namespace equicalc {
namespace {

constexpr const char *kJsonMember = "extra/equicalc.json";

void check_kind(const std::string &path) {
    namespace fs = std::filesystem;
    std::error_code code;
    if (!fs::exists(path, code)) {
        refuse(path,
               "no such file. Give the path of an exported model or the name of a shipped one "
               "(equicalc models lists them).");
    }
    if (fs::is_directory(path, code)) {
        refuse(path,
               std::string("this is a directory, expected a file. Export a training run with: ") +
                   kExportLine);
    }
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        refuse(path, "the file exists but cannot be read. Check its permissions.");
    }
    std::array<char, 4> magic{};
    file.read(magic.data(), magic.size());
    const std::string found(magic.data(), static_cast<size_t>(file.gcount()));
    if (found.empty()) {
        refuse(path, std::string("the file is empty. Export the model again: ") + kExportLine);
    }
    if (found == "PK\x03\x04") {
        return;
    }
    const bool text = std::all_of(found.begin(), found.end(), [](unsigned char c) {
        return std::isprint(c) != 0 || std::isspace(c) != 0;
    });
    refuse(path, std::string(text ? "found a text file" : "found a file of another kind") +
                     ", expected a TorchScript archive (zip) written by: " + kExportLine);
}

// CRC-32 of zip (reflected polynomial 0xEDB88320, ISO 3309).
uint32_t crc32(const unsigned char *data, size_t size) {
    static const std::array<uint32_t, 256> table = [] {
        std::array<uint32_t, 256> entries{};
        for (uint32_t i = 0; i < 256; ++i) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) {
                value = (value & 1U) != 0 ? 0xEDB88320U ^ (value >> 1) : value >> 1;
            }
            entries[i] = value;
        }
        return entries;
    }();
    uint32_t crc = 0xFFFFFFFFU;
    for (size_t i = 0; i < size; ++i) {
        crc = table[(crc ^ data[i]) & 0xFFU] ^ (crc >> 8);
    }
    return crc ^ 0xFFFFFFFFU;
}

// The directory at the end of a zip file (APPNOTE 6.3, sections 4.3.12 to 4.3.16): name -> CRC.
class ZipDirectory {
  public:
    explicit ZipDirectory(const std::string &path) {
        std::ifstream file(path, std::ios::binary);
        bytes_.assign(std::istreambuf_iterator<char>(file), {});
        const size_t end = bytes_.rfind(std::string("PK\x05\x06", 4));
        TORCH_CHECK(end != std::string::npos, "no end of directory");
        uint64_t count = number(end + 10, 2);
        uint64_t at = number(end + 16, 4);
        if (count == 0xFFFF || at == 0xFFFFFFFF) {  // zip64: the numbers are in a larger record
            const uint64_t large = number(end - 20 + 8, 8);
            count = number(large + 32, 8);
            at = number(large + 48, 8);
        }
        for (uint64_t entry = 0; entry < count; ++entry) {
            TORCH_CHECK(number(at, 4) == 0x02014b50, "bad directory entry");
            const uint64_t length = number(at + 28, 2);
            TORCH_CHECK(at + 46 + length <= bytes_.size(), "directory beyond the end");
            const std::string name = bytes_.substr(at + 46, length);
            crc[name.substr(name.find('/') + 1)] = static_cast<uint32_t>(number(at + 16, 4));
            at += 46 + length + number(at + 30, 2) + number(at + 32, 2);
        }
    }

    std::map<std::string, uint32_t> crc;  // without the name of the archive itself

  private:
    uint64_t number(uint64_t at, uint64_t size) const {
        TORCH_CHECK(at < bytes_.size() && at + size <= bytes_.size(), "directory beyond the end");
        uint64_t value = 0;
        for (uint64_t i = size; i-- > 0;) {
            value = value << 8 | static_cast<unsigned char>(bytes_[at + i]);
        }
        return value;
    }

    std::string bytes_;
};

}  // namespace

void refuse(const std::string &path, const std::string &reason) {
    throw ModelFileError("equicalc: cannot use model file '" + path + "': " + reason);
}

std::string read_archive(const std::string &path) {
    check_kind(path);
    std::string json;
    bool found_json = false;
    try {
        const ZipDirectory directory(path);
        caffe2::serialize::PyTorchStreamReader reader(path);
        for (const auto &[name, expected] : directory.crc) {
            const auto [data, size] = reader.getRecord(name);
            const auto *bytes = static_cast<const unsigned char *>(data.get());
            TORCH_CHECK(crc32(bytes, size) == expected, "bad checksum of ", name);
            if (name == kJsonMember) {
                json.assign(bytes, bytes + size);
                found_json = true;
            }
        }
    } catch (const std::exception &) {
        refuse(path,
               "the archive is truncated or damaged. Copy the file again, or export it again: " +
                   std::string(kExportLine));
    }
    if (!found_json) {
        refuse(path,
               "found a torch archive without equicalc.json, expected a model exported by "
               "equicalc. Checkpoints and TorchScript files of other programs cannot be run; "
               "export a training run with: " +
                   std::string(kExportLine));
    }
    return json;
}

}  // namespace equicalc
