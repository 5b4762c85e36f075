"""What the planner says of the machine and how a checkpoint fits it: English to Chinese.

Templates of `app.words.sentences`.
"""

_PARTS = {
    "prior": "先验模型",
    "embedding": "词嵌入",
    "vision": "视觉塔",
    "glyphs": "字形编码器",
    "decoder": "解码器",
    "modulation": "调制层",
    "vae": "VAE",
}
_EXACT = {
    "lossless": "无损",
    "in 8 bits, which costs little quality": "为 8 位，画质损失很小",
    "in 4 bits, which costs quality": "为 4 位，画质有损失",
    "in 4 bits with packed scales, which costs quality": "为 4 位（压缩缩放系数），画质有损失",
}
_PLACES = {
    "resident": "常驻",
    "looked up on the host": "在内存中查表",
    "for its stage, else on the host": "用时载入，其余时间在内存",
    "for its stage, else on the disk": "用时载入，其余时间在磁盘",
}
_STREAMED = ("{blocks} of {all} blocks, the rest streamed", "{all} 块中常驻 {blocks} 块，其余逐块传入")
_STAGES = {
    "loading: prior": "载入先验模型",
    "loading: decoder": "载入解码器",
    "references: vision tower": "参考图：视觉塔",
    "references: VAE encoder": "参考图：VAE 编码器",
    "prior: prompt": "先验模型：提示词",
    "prior: codes": "先验模型：编码",
    "decoder: modulations": "解码器：调制",
    "decoder: references": "解码器：参考图",
    "decoder: steps": "解码器：步骤",
    "VAE decoder": "VAE 解码器",
}
_TIMES = {"{number} s": "{number} 秒", "{number} min": "{number} 分钟", "{number} h": "{number} 小时"}
_SENTENCES = {
    "{picked}; the peak is {peak} of {total} ({stage}), {job} takes about {time}.": (
        "{picked}；峰值 {peak}，共 {total}（{stage}），{job} 约需 {time}。"
    ),
    "Prior and decoder are {how}": "先验模型和解码器{how}",
    "The prior is {how}, the decoder {other}": "先验模型{how}，解码器{other}",
    "The price: {costs}.": "代价：{costs}。",
    "{names} blocks cross to the device in every pass": "每一遍都要传入{names}",
    "{count} of the {part}'s {all}": "{part}的 {count}/{all} 块",
    "{count} of the prior's {all} and {more} of the decoder's {whole}": (
        "先验模型的 {count}/{all} 块和解码器的 {more}/{whole} 块"
    ),
    "the weights of {names} come from the {place} in every run": "每次生成都要从{place}载入{names}的权重",
    "the {part}": "{part}",
    "the prior and the decoder": "先验模型和解码器",
    "host": "内存",
    "disk": "磁盘",
    "the VAE works in tiles of {side} px, which differ a little from the whole": (
        "VAE 按 {side} 像素分块处理，与整张处理略有差别"
    ),
    "layouts are drawn {count} at a time": "每次绘制 {count} 个布局",
    "{size} of weights stay in host memory": "{size} 权重留在内存",
    "Why not {what}: {why} ({peak}).": "为何不用{what}：{why}（{peak}）。",
    "Why not {what}: {why} ({peak} and {time}).": "为何不用{what}：{why}（{peak}，{time}）。",
    "Speeds are {source} ({name}); weights are exact, activations follow the code, the {size} of the {what} are"
    " tabulated.": "速度{source}（{name}）；权重为精确值，激活按代码推算，{what}的 {size} 来自表格。",
    "measured here": "为本机实测",
    "tabulated, not measured": "来自表格，未实测",
    "{name}, taken as {other}": "{name}，按 {other} 估算",
    "a cpu device": "CPU",
    "a cuda device": "CUDA 设备",
    "a rocm device": "ROCm 设备",
    "a mps device": "MPS 设备",
    "interpreter": "解释器",
    "driver": "驱动程序",
    "Nothing was measured on a {kind} device yet.": "{kind} 设备上还没有实测过。",
}
_REJECTED = {
    "prior and decoder in {format}": "先验模型和解码器用 {format}",
    "everything resident": "全部常驻",
    "VAE without tiles": "VAE 不分块",
    "VAE in tiles of {side} px": "VAE 按 {side} 像素分块",
    "{number} layouts at once": "一次绘制 {number} 个布局",
    "{number} layouts at a time": "每次绘制 {number} 个布局",
    "is not among what was asked for": "不在所选范围内",
    "{free} of free host memory do not hold the weights that wait": "空闲内存 {free} 装不下等待的权重",
    "does not fit into {size}": "{size} 装不下",
    "more exact, but {time}": "更精确，但{time}",
    "less exact, and {time}": "精度较低，{time}",
    "as exact, and {time}": "同样精确，{time}",
    "{times}x the time": "耗时为 {times} 倍",
    "{share} faster": "快 {share}",
    "as fast": "速度相同",
}
_CHANGED = {
    "For {size}: {changed}.": "为了 {size}：{changed}。",
    **{f"{part} {how}": f"{said}{chinese}" for part, said in _PARTS.items() for how, chinese in _EXACT.items()},
    **{
        f"{part} {where}": f"{said}：{chinese}"
        for part, said in _PARTS.items()
        for where, chinese in (*_PLACES.items(), _STREAMED)
    },
}
_REFUSED = {
    "The model runs in the memory of this {kind}, into which nothing is streamed; leave --offload out.": (
        "模型直接在本机 {kind} 的内存中运行，没有可逐块传入的地方；请勿指定移出方式。"
    ),
    "The plan that was asked for cannot be had on this machine; leave the choice to the planner.": (
        "本机无法按所选方式运行；请留给程序决定。"
    ),
    "This is no plan ({why}); make it again.": "这不是运行方案（{why}）；请重新生成。",
    "{job} does not fit into {have} of {memory} with {host} beside it": (
        "{job} 放不进 {have} {memory}（另有内存 {host}）"
    ),
    "{job} needs at least {least} of free {memory} and there are {have}": (
        "{job} 至少需要 {least} 空闲{memory}，现有 {have}"
    ),
    "memory": "内存",
    "device memory": "显存",
    "{start}; leave the choice of bits to the planner.": "{start}；请把位数留给程序决定。",
    "{start}, and no size fits; free some memory, or use the miniature.": (
        "{start}，任何尺寸都放不下；请释放一些内存，或使用 miniature。"
    ),
    "{start}; {job} would fit.": "{start}；{job} 可以。",
    "{start}; {job} or {other} would fit.": "{start}；{job} 或 {other} 可以。",
    "{size} with {number} reference": "{size} 加 {number} 张参考图",
    "{size} with {number} references": "{size} 加 {number} 张参考图",
    "{size} with {number} reference of its size": "{size} 加 {number} 张同样大小的参考图",
    "{size} with {number} references of its size": "{size} 加 {number} 张同样大小的参考图",
    "{size} without references": "{size} 不加参考图",
}

PLANS = {
    **_PARTS,
    **_EXACT,
    **_PLACES,
    _STREAMED[0]: _STREAMED[1],
    **_STAGES,
    **_TIMES,
    **_SENTENCES,
    **_REJECTED,
    **_CHANGED,
    **_REFUSED,
}
