"""What can be wrong with a checkpoint, a LoRA, the hub and the machine: English to Chinese.

Templates of `app.words.sentences`.
"""

_FOUND = {
    "No checkpoint is named; write miniature, a folder, or a hub id.": (
        "没有写模型名称；请填写 miniature、文件夹，或 hub 名称。"
    ),
    "There is no way {offload} to keep weights; choose auto, none, stage or stream.": (
        "没有 {offload} 这种放置权重的方式；请选择 auto、none、stage 或 stream。"
    ),
    "There is no checkpoint {name}; name a folder that exists, a hub id such as zai-org/GLM-Image, or {miniature}.": (
        "没有模型 {name}；请填写现有的文件夹、zai-org/GLM-Image 这样的 hub 名称，或 {miniature}。"
    ),
    "The model {name} is not a GLM-Image checkpoint: it has no {lacking}; name another.": (
        "{name} 不是 GLM-Image 模型：缺少 {lacking}；请换一个。"
    ),
    "The copy of {name} in {folder} is not whole ({lacking} missing) and cannot be completed: {why}": (
        "{folder} 中的 {name} 不完整（缺少 {lacking}），也无法补全：{why}"
    ),
    "There is no checkpoint folder {folder}; train or download one, or name another.": (
        "没有模型文件夹 {folder}；请训练或下载一个，或换一个。"
    ),
    "The checkpoint in {folder} is not whole: {lacking} missing; download or write it again.": (
        "{folder} 中的模型不完整，缺少 {lacking}；请重新下载或写入。"
    ),
    "The checkpoint in {folder} is a {kind}, not a GlmImagePipeline; name another folder.": (
        "{folder} 中的模型是 {kind}，不是 GlmImagePipeline；请换一个文件夹。"
    ),
    "The file {path} lists no weights; download or write the checkpoint again.": (
        "文件 {path} 没有列出权重；请重新下载或写入模型。"
    ),
    "The file {path} is not a JSON object; download or write the checkpoint again.": (
        "文件 {path} 不是 JSON 对象；请重新下载或写入模型。"
    ),
    "The file {path} is not a JSON object; download or write it again.": (
        "文件 {path} 不是 JSON 对象；请重新下载或写入。"
    ),
    "The file {path} says {key} = {value}, which has no meaning; correct it or remove it.": (
        "文件 {path} 中的 {key} = {value} 没有意义；请改正或删除。"
    ),
    "The file {path} cannot be read ({why}); download or write the checkpoint again.": (
        "文件 {path} 无法读取（{why}）；请重新下载或写入模型。"
    ),
    "The file {path} cannot be read ({why}); download or write it again.": (
        "文件 {path} 无法读取（{why}）；请重新下载或写入。"
    ),
    "The file {path} cannot be used ({why}); download or write it again.": (
        "文件 {path} 无法使用（{why}）；请重新下载或写入。"
    ),
    "The checkpoint's scheduler sets {names}, which GLM-Image does not use; restore its"
    " scheduler/scheduler_config.json.": (
        "模型的调度器设置了 GLM-Image 不使用的 {names}；请恢复 scheduler/scheduler_config.json。"
    ),
    "The checkpoint's vae/config.json needs latents_mean and latents_std of {count} numbers each; add them or get the"
    " checkpoint again.": (
        "模型的 vae/config.json 需要各含 {count} 个数的 latents_mean 和 latents_std；请补上，或重新获取模型。"
    ),
    "The configs of {source} describe no GLM-Image ({why}); correct them or get the checkpoint again.": (
        "{source} 的配置不是 GLM-Image（{why}）；请改正，或重新获取模型。"
    ),
    "The sizes of {name} are not known before it is here: run 'python -m glmimage fetch {again}' first, or plan for"
    " {names}.": "本机没有 {name}，无法得知其大小：请先运行 'python -m glmimage fetch {again}'，或改为规划 {names}。",
}
_WEIGHTS = {
    "The weights in {folder} lack {count} tensors such as {name}; download or write them again.": (
        "{folder} 中的权重缺少 {count} 个张量，例如 {name}；请重新下载或写入。"
    ),
    "The config.json in {folder} leaves out blocks that its weights have, such as {name}; download or"
    " write it again.": ("{folder} 中的 config.json 漏掉了权重里的部分块，例如 {name}；请重新下载或写入。"),
    "The weights in {folder} cannot be loaded ({why}); download or write them again.": (
        "{folder} 中的权重无法载入（{why}）；请重新下载或写入。"
    ),
    "The processor in {folder} cannot be loaded ({why}); download or write it again.": (
        "{folder} 中的处理器无法载入（{why}）；请重新下载或写入。"
    ),
    "The weights in {folder} are stored in {stored} and cannot become {format}; load them as they are, or use the"
    " checkpoint that they were made from.": (
        "{folder} 中的权重以 {stored} 存储，不能变为 {format}；请原样载入，或使用原始模型。"
    ),
    "The weights in {folder} are quantized by {method}, which cannot be loaded here; use the checkpoint that they were"
    " made from.": "{folder} 中的权重由 {method} 量化，这里无法载入；请使用原始模型。",
    "The {part} is quantized by {method}, which cannot be planned for; name the checkpoint it was made from.": (
        "{part} 由 {method} 量化，无法规划；请使用原始模型。"
    ),
    "The {part} of {name} cannot be loaded in {format}; choose {formats}.": (
        "{name} 的{part}不能以 {format} 载入；请选择 {formats}。"
    ),
    "Weights cannot have {bits} bits; choose 16, 8 or 4, or leave it to the planner.": (
        "权重不能是 {bits} 位；请选择 16、8 或 4，或留给程序决定。"
    ),
    "Weights cannot have {bits} bits; choose 8 or 4.": "权重不能是 {bits} 位；请选择 8 或 4。",
    "Weights in 8 or 4 bits need bitsandbytes, which cannot be used here ({why}); install it with 'pip install"
    " bitsandbytes', or use the unquantized checkpoint.": (
        "8 位或 4 位权重需要 bitsandbytes，这里无法使用（{why}）；"
        "请运行 'pip install bitsandbytes' 安装，或使用未量化的模型。"
    ),
    "The stack cannot run in {dtype}; use float32 or bfloat16.": (
        "模型不能以 {dtype} 运行；请使用 float32 或 bfloat16。"
    ),
}
_LORAS = {
    "The weight {weight} of the LoRA {path} is not between -{low} and {high}; 1 is as it was trained.": (
        "LoRA {path} 的权重 {weight} 必须在 -{low} 到 {high} 之间；1 为训练时的强度。"
    ),
    "The LoRA {path} is not called {name}; name its folder, in peft's format.": (
        "LoRA {path} 的文件名不是 {name}；请填写 peft 格式的文件夹。"
    ),
    "There is no LoRA in {path}: it would have the files {config} and {weights}, as peft writes them.": (
        "{path} 中没有 LoRA：应有 peft 写入的文件 {config} 和 {weights}。"
    ),
    "The LoRA {path} cannot be read ({why}); download or train it again.": (
        "LoRA {path} 无法读取（{why}）；请重新下载或训练。"
    ),
    "The LoRA in {folder} is neither of the prior nor of the decoder of a GLM-Image.": (
        "{folder} 中的 LoRA 既不属于 GLM-Image 的先验模型，也不属于解码器。"
    ),
    "The file {path} cannot be read ({why}); download or train the LoRA again.": (
        "文件 {path} 无法读取（{why}）；请重新下载或训练 LoRA。"
    ),
    "The file {path} does not describe a LoRA; only LoRA adapters can be used.": (
        "文件 {path} 描述的不是 LoRA；只能使用 LoRA 适配器。"
    ),
    "The LoRA of {path} has {name}, which is not supported here; train it without.": (
        "{path} 的 LoRA 含有这里不支持的 {name}；请去掉后重新训练。"
    ),
    "{wrong} ({why}); use it with the model that it was trained for.": "{wrong}（{why}）；请用于训练它时的模型。",
    "The LoRA {path} does not fit this checkpoint": "LoRA {path} 与此模型不匹配",
    "The LoRA {path} has numbers that are not finite; train it again.": "LoRA {path} 含有非有限数；请重新训练。",
}
_HUB = {
    "{hub} does not answer as a hub does for {name} ({why}); correct the name, the network's log-in, or HF_ENDPOINT if"
    " it is set.": "{hub} 对 {name} 的回应不像 hub（{why}）；请检查名称、网络登录，或已设置的 HF_ENDPOINT。",
    "{hub} gives no commit for {name}; use another endpoint (HF_ENDPOINT).": (
        "{hub} 没有给出 {name} 的提交；请换一个地址（HF_ENDPOINT）。"
    ),
    "{hub} gives no size, hash or proper name for {file} of {name}; use another endpoint (HF_ENDPOINT) or another"
    " checkpoint.": "{hub} 没有给出 {name} 中 {file} 的大小、哈希或正确名称；请换一个地址（HF_ENDPOINT）或模型。",
    "The checkpoint {name} is given only to those who accepted its terms; accept them at {page}, {log_in}, and try"
    " again.": "模型 {name} 只提供给已接受其条款的人；请在 {page} 接受条款，{log_in}，然后重试。",
    "{hub} has no checkpoint {name} for everyone; correct the name, or, if it is private, {log_in}.": (
        "{hub} 上没有公开的模型 {name}；请改正名称，若为私有，请{log_in}。"
    ),
    "log in with `hf auth login` or set HF_TOKEN": "用 `hf auth login` 登录或设置 HF_TOKEN",
    "The checkpoint {name} has no such revision; name a branch, a tag or a commit after the @.": (
        "模型 {name} 没有这个版本；请在 @ 后写分支、标签或提交。"
    ),
    "{hub} refuses to give {name} (status {status}); {log_in} (the present token may be wrong), and try again.": (
        "{hub} 拒绝提供 {name}（状态 {status}）；请{log_in}（现有令牌可能有误），然后重试。"
    ),
    "{hub} cannot give {name} now (status {status}); try again later, what has arrived is kept.": (
        "{hub} 现在无法提供 {name}（状态 {status}）；请稍后重试，已下载的内容会保留。"
    ),
    "{hub} cannot give {name} (status {status}); correct the name, or HF_ENDPOINT if it is set.": (
        "{hub} 无法提供 {name}（状态 {status}）；请改正名称，或已设置的 HF_ENDPOINT。"
    ),
    "The checkpoint {name} is not here in full and HF_HUB_OFFLINE forbids fetching it; unset HF_HUB_OFFLINE.": (
        "本机的模型 {name} 不完整，而 HF_HUB_OFFLINE 禁止下载；请取消 HF_HUB_OFFLINE。"
    ),
    "{hub} cannot be reached for {name} ({why}); check the network, or HF_ENDPOINT if it is set, and try again: what"
    " has arrived is kept.": (
        "无法连接 {hub} 获取 {name}（{why}）；请检查网络或已设置的 HF_ENDPOINT，然后重试：已下载的内容会保留。"
    ),
    "The checkpoint {name} cannot be stored in {folder} ({why}); make room and give this account the right to write"
    " there, or set HF_HOME to another folder.": (
        "模型 {name} 无法保存到 {folder}（{why}）；请腾出空间并授予写入权限，或把 HF_HOME 设为其他文件夹。"
    ),
    "The checkpoint {name} needs {needed} more in {folder}, where {free} are free; make room, or set HF_HOME to a"
    " folder on a larger disk.": (
        "模型 {name} 还需要 {folder} 中的 {needed}，目前空闲 {free}；请腾出空间，或把 HF_HOME 设到更大的磁盘。"
    ),
    "The file {path} of {name} arrived damaged (its hash is not the one that the hub states) and was removed; fetch the"
    " checkpoint again.": "{name} 的文件 {path} 下载后已损坏（哈希与 hub 不符），已删除；请重新获取模型。",
}
_MACHINE = {
    "There is no device {name}; choose cpu, cuda or mps.": "没有设备 {name}；请选择 cpu、cuda 或 mps。",
    "This machine has no usable {name}; choose cpu or install the torch build for it.": (
        "本机没有可用的 {name}；请选择 cpu，或安装相应版本的 torch。"
    ),
    "torch finds no {kind} device here; say with --vram how much memory it has, or plan for {there}.": (
        "torch 没有找到 {kind} 设备；请用 --vram 指明其显存，或按 {there} 规划。"
    ),
    "A device does not have {memory} GiB of memory; say how many may be used.": (
        "设备没有 {memory} GiB 内存；请填写可用的数量。"
    ),
    "The memory {memory} is not a number of GiB; correct it or leave it empty.": (
        "内存 {memory} 不是 GiB 数值；请改正，或留空。"
    ),
    "The weights that do not fit into memory wait in {folder}, where {free} GiB are free; make room there, or use fewer"
    " bits.": "放不进内存的权重存于 {folder}，那里空闲 {free} GiB；请腾出空间，或用更少的位数。",
    "The file in which weights wait was cut short; start again.": "存放权重的文件不完整；请重新开始。",
    "The memory was not enough for {doing}; {remedy}.": "内存不足以{doing}；{remedy}。",
    "The memory was not enough for {doing}, and there is no smaller way: {why}": (
        "内存不足以{doing}，也没有更省的方式：{why}"
    ),
    "The memory was not enough for {doing}, even in a smaller way; {remedy}.": (
        "即使用更省的方式，内存也不足以{doing}；{remedy}。"
    ),
    "The memory was not enough for {doing}; now: {changed}.": "内存不足以{doing}；现在改为：{changed}。",
    "once more": "再试一次",
    "choose a smaller size, fewer references or fewer pictures, or close other programs": (
        "请选择更小的尺寸、更少的参考图或图片，或关闭其他程序"
    ),
    "loading": "载入",
    "looking at the references": "观察参考图",
    "sketching the layout": "勾画布局",
    "reading the words": "读取文字",
    "painting": "绘制",
    "developing the picture": "显影",
    "proofreading the picture": "校对图片",
    "loading the model": "载入模型",
    "The memory of this machine was not enough; choose a smaller size or fewer pictures.": (
        "本机内存不足；请选择更小的尺寸或更少的图片。"
    ),
    "An unexpected fault while {doing} ({kind}); the terminal that started the studio shows where.": (
        "{doing}时出现意外错误（{kind}）；启动程序的终端里有详细信息。"
    ),
}

CHECKPOINTS = {**_FOUND, **_WEIGHTS, **_LORAS, **_HUB, **_MACHINE}
