#pragma once
// A fresh folder for one test, removed with everything in it.

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace switchyard {

class TempFolder {
 public:
  TempFolder() : path_((std::filesystem::temp_directory_path() / "switchyard-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) throw std::filesystem::filesystem_error(path_, {});
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace switchyard
