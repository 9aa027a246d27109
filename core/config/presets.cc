#include "core/config/presets.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "core/base/foreign_text.h"
#include "core/config/fields.h"
#include "core/config/run_config.pb.h"
#include "core/config/suggest.h"

namespace switchyard::config {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLargestFile = int64_t{1} << 20;  // bytes; far above any hand-written config
constexpr char kExtension[] = ".textproto";

std::vector<fs::path> search_folders(const std::string& folder, const fs::path& config_path) {
  std::vector<fs::path> folders;
  std::error_code error;
  fs::path parent = fs::absolute(config_path, error).lexically_normal().parent_path();
  for (; !error && !parent.empty(); parent = parent.parent_path()) {
    folders.push_back(parent / "configs" / folder);
    if (parent == parent.root_path()) break;
  }
  folders.push_back(fs::path("configs") / folder);
  std::erase_if(folders, [](const fs::path& path) {
    std::error_code ignored;
    return !fs::is_directory(path, ignored);
  });
  return folders;
}

// By name; an earlier folder's file hides a later one's.
std::map<std::string, fs::path> files_in(const std::vector<fs::path>& folders) {
  std::map<std::string, fs::path> files;
  for (const fs::path& folder : folders) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error))
      if (entry.path().extension() == kExtension)
        files.insert({entry.path().stem().string(), entry.path()});
  }
  return files;
}

std::vector<std::string> names_in(const std::vector<fs::path>& folders) {
  std::vector<std::string> names;
  for (const auto& [name, path] : files_in(folders)) names.push_back(name);
  return names;
}

// Relative to the current directory if it lies below, as messages read better so.
fs::path shortened(const fs::path& file) {
  std::error_code error;
  const fs::path relative = file.lexically_relative(fs::current_path(error));
  return error || relative.empty() || *relative.begin() == ".." ? file : relative;
}

// The preset's file, or an empty path with a problem reported.
fs::path find_preset(const PresetRequest& request, ReadResult& result) {
  const auto problem = [&](const std::string& text) {
    result.problems.push_back(
        fmt::format("{}: {} {}", request.config_path.string(), request.field, text));
    return fs::path();
  };
  if (!is_plain_name(request.name))
    return problem(
        fmt::format("must be a name of {}, got {}", kPlainName, in_quotes(request.name)));
  const std::vector<fs::path> folders = search_folders(request.folder, request.config_path);
  for (const fs::path& folder : folders) {
    std::error_code error;
    const fs::path file = folder / (request.name + kExtension);
    if (fs::is_regular_file(file, error)) return shortened(file);
  }
  if (folders.empty())
    return problem(
        fmt::format("is {}, but there is no folder configs/{} beside the config, above it or in "
                    "the current directory",
                    in_quotes(request.name), request.folder));
  return problem(fmt::format("is {}, but no configs/{}/{}{} exists{}", in_quotes(request.name),
                             request.folder, request.name, kExtension,
                             suggestion(request.name, names_in(folders))));
}

// Drops the schedules of `base` whose fields have one in `top`.
void drop_replaced_schedules(RunConfig& base, const RunConfig& top) {
  const auto is_replaced = [&](const ValueSchedule& schedule) {
    return std::any_of(top.schedule().begin(), top.schedule().end(),
                       [&](const auto& own) { return own.field() == schedule.field(); });
  };
  auto& schedules = *base.mutable_schedule();
  schedules.erase(std::remove_if(schedules.begin(), schedules.end(), is_replaced), schedules.end());
}

// Drops the lists of `base` that `top` sets too, at any depth, since MergeFrom would append.
void drop_replaced_lists(Message& base, const Message& top) {
  std::vector<const FieldDescriptor*> fields;
  top.GetReflection()->ListFields(top, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->message_type() == ValueSchedule::descriptor())
      drop_replaced_schedules(dynamic_cast<RunConfig&>(base), dynamic_cast<const RunConfig&>(top));
    else if (field->is_repeated())
      base.GetReflection()->ClearField(&base, field);
    else if (is_group(*field) && base.GetReflection()->HasField(base, field))
      drop_replaced_lists(*base.GetReflection()->MutableMessage(&base, field),
                          top.GetReflection()->GetMessage(top, field));
  }
}

}  // namespace

std::vector<fs::path> preset_files(const std::string& folder, const fs::path& config_path) {
  std::vector<fs::path> paths;
  for (const auto& [name, path] : files_in(search_folders(folder, config_path)))
    paths.push_back(path);
  return paths;
}

std::string read_config_file(const fs::path& path, std::string& text) {
  std::error_code error;
  if (!fs::exists(path, error)) return fmt::format("{}: no such file", path.string());
  if (!fs::is_regular_file(path, error)) return fmt::format("{}: not a file", path.string());
  std::ifstream file(path, std::ios::binary);
  if (!file) return fmt::format("{}: cannot be opened; check its permissions", path.string());
  const auto size = static_cast<int64_t>(fs::file_size(path, error));
  if (size > kLargestFile)
    return fmt::format("{}: larger than {} bytes, the most a config may have", path.string(),
                       kLargestFile);
  text.resize(static_cast<size_t>(size));
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (file.gcount() != size) return fmt::format("{}: cannot be read", path.string());
  return "";
}

void merge_preset(const PresetRequest& request, Message& group, ReadResult& result) {
  const fs::path file = find_preset(request, result);
  if (file.empty()) return;
  std::string text;
  const std::string unreadable = read_config_file(file, text);
  if (!unreadable.empty()) {
    result.problems.push_back(unreadable);
    return;
  }
  const std::unique_ptr<Message> merged(group.New());
  ReadResult preset = read_text({text, file.string(), request.root}, *merged);
  const FieldDescriptor* itself = merged->GetDescriptor()->FindFieldByName(request.field);
  if (itself != nullptr && merged->GetReflection()->HasField(*merged, itself))
    preset.problems.push_back(fmt::format("{}: {} must not be set in a file that it names itself",
                                          preset.where[request.field], request.field));
  drop_replaced_lists(*merged, group);
  merged->MergeFrom(group);
  group.CopyFrom(*merged);
  result.problems.insert(result.problems.end(), preset.problems.begin(), preset.problems.end());
  result.where.merge(preset.where);  // keeps the run's own positions
}

}  // namespace switchyard::config
