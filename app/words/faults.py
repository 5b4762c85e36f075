"""What can be wrong with what a person asks for, brings or keeps, and what is noted of it: English to Chinese.

Templates of `app.words.sentences`; those of checkpoints and of the machine have files of their own.
"""

_REQUEST = {
    "The prompt is empty; say what the picture should show.": "提示词是空的；请写下画面的内容。",
    "The prompt has {length} characters; shorten it to {most} at most.": (
        "提示词有 {length} 个字符；请缩短到 {most} 个以内。"
    ),
    "The request has no prompt; add one.": "请求中没有提示词；请补上。",
    "The request has no size yet; resolve it with the checkpoint's defaults first.": (
        "请求还没有尺寸；请先用模型的默认值补全。"
    ),
    "The {name} {value} is not a whole number between {low} and {high}; {remedy}.": (
        "{name}（{value}）必须是 {low} 到 {high} 之间的整数；{remedy}。"
    ),
    "The {name} {value} is not a whole number between {low} and {high}.": (
        "{name}（{value}）必须是 {low} 到 {high} 之间的整数。"
    ),
    "sides are in pixels": "边长以像素为单位",
    "ask for more pictures in a second run": "更多图片请分几次生成",
    "any number in that range will do": "此范围内任选一个即可",
    "20 to 50 are usual": "通常为 20 到 50",
    "0 means no limit": "0 表示不限",
    "The {name} {value} is not a number; write it with digits.": "{name}（{value}）不是数字；请用数字填写。",
    "The {name} {value} is not a number; correct it or leave it empty.": "{name}（{value}）不是数字；请改正，或留空。",
    "The {name} {value} is not text; write it as text.": "{name}（{value}）不是文字；请用文字填写。",
    "The {name} holds half a character (a lone surrogate); type it again.": (
        "{name}里有半个字符（孤立的代理项）；请重新输入。"
    ),
    "The {name} {value} is not known; choose one of {choices}.": "{name}（{value}）无法识别；请从 {choices} 中选择。",
    "The {name} is not a grid of codes; take it from a picture that this program made.": (
        "{name}不是编码网格；请取自本程序生成的图片。"
    ),
    "The guidance {value} is not between 0 and {most}; 1.5 is usual, 1 turns it off.": (
        "引导强度（{value}）必须在 0 到 {most} 之间；通常为 1.5，1 表示关闭。"
    ),
    "The temperature {value} is not above 0 and at most 100; 0.9 is a good start.": (
        "温度（{value}）必须大于 0 且不超过 100；可以从 0.9 开始。"
    ),
    "The top-p {value} is not above 0 and at most 1; 0.75 is a good start.": (
        "top-p（{value}）必须大于 0 且不超过 1；可以从 0.75 开始。"
    ),
    "The {name} {value} is not between 0 and {high}; choose a number in between.": (
        "{name}（{value}）必须在 0 到 {high} 之间；请选择其间的数。"
    ),
    "The strength {value} is not between 0 and 1; 1 gives the style its whole say.": (
        "强度（{value}）必须在 0 到 1 之间；1 表示风格完全起作用。"
    ),
    "The {name} are not a list of {kind} values; build them as such.": "{name}不是由 {kind} 组成的列表；请按此填写。",
    "The {name} of the request are not a list; write them as one.": "请求中的{name}不是列表；请写成列表。",
    "The sampling {value} is not a Sampling value; build it as such.": (
        "采样设置 {value} 不是 Sampling 类型；请按此填写。"
    ),
    "The layout {value} is not a Layout value; build it as such.": "布局 {value} 不是 Layout 类型；请按此填写。",
    "A {kind} is an object in JSON, not {data}; write its fields by name.": (
        "{kind}应是 JSON 对象，而不是 {data}；请按名称填写各字段。"
    ),
    "The {kind} has unknown fields {names}; remove them or open it with the version that wrote it.": (
        "{kind}含有未知字段 {names}；请删除它们，或用写入它的版本打开。"
    ),
    "The {kind} is not complete ({why}); add the missing fields.": "{kind}不完整（{why}）；请补上缺少的字段。",
    "A reference has no file; choose a picture or remove the reference.": (
        "有一张参考图没有文件；请选择图片，或移除它。"
    ),
    "There is no picture to keep anything of; add a reference, or remove mask and content.": (
        "没有可以保留内容的图片；请加入参考图，或去掉蒙版和内容保留。"
    ),
    "With reference pictures the model draws no sketch first; generate at once instead.": (
        "有参考图时模型不先画草图；请直接生成。"
    ),
    "The prompt with its references takes {tokens} tokens and the picture {codes}, more than the {most} that the model"
    " holds; shorten the prompt, or use fewer references or a smaller picture.": (
        "提示词和参考图共 {tokens} 个 token，图片 {codes} 个，超过模型上限 {most}；"
        "请缩短提示词、减少参考图，或缩小图片。"
    ),
    "The quoted text {text}... has {length} bytes and at most {most} can be written; shorten it or split it into"
    " several quoted texts.": "引号中的文字 {text}…… 有 {length} 字节，最多能写 {most} 字节；请缩短，或分成几段引号。",
    "{steps} steps cannot be taken; choose between 1 and {most}.": "不能走 {steps} 步；请选择 1 到 {most}。",
    "A style is a name or a picture; give one of the two.": "风格可以是名称或图片；请给出其中之一。",
    "A scene takes 1 to {most} subjects, not {count}; add or remove pictures.": (
        "一个场景容纳 1 到 {most} 个主角，现在是 {count} 个；请增减图片。"
    ),
    "Picture {number} has no name; give it one and say it in the prompt.": (
        "图片 {number} 没有名字；请起一个，并写进提示词。"
    ),
    "Picture {number} is called {name} like another; name it otherwise.": (
        "图片 {number} 和另一张都叫 {name}；请换个名字。"
    ),
    "The prompt does not say {name}; mention it or remove its picture.": (
        "提示词里没有提到 {name}；请写进去，或移除它的图片。"
    ),
    "The prompt says {words}, which is not there; add that picture or reword.": (
        "提示词里提到的 {words} 并不存在；请加入那张图片，或改写。"
    ),
    "Stopped as asked; generate again to start over.": "已按要求停止；可重新生成。",
}
_SIZES = {
    "The size {size} has no pixels; give both sides as positive numbers.": "尺寸 {size} 没有像素；宽和高都应大于 0。",
    "The size {size} is longer than {most}:1, which the model cannot lay out; make the longer side at most {times}"
    " times the shorter.": "尺寸 {size} 的长宽比超过 {most}:1，模型无法布局；长边请不超过短边的 {times} 倍。",
    "The size {text} cannot be read; write it as WIDTHxHEIGHT, for example 256x256.": (
        "尺寸 {text} 无法识别；请写成 宽x高，例如 256x256。"
    ),
    "The size {size} is outside what {name} can make; choose sides between {low} and {high} pixels.": (
        "尺寸 {size} 超出 {name} 的范围；边长请选择 {low} 到 {high} 像素。"
    ),
    "this checkpoint": "此模型",
    "The size {given} became {size}, because {why}.": "尺寸 {given} 已改为 {size}，因为{why}。",
    "{name} was trained for pictures of up to {count} pixels, and {size} has more: expect broken things; choose a"
    " smaller size.": "{name} 只学过不超过 {count} 像素的图像，而 {size} 更大：画面可能残缺，请选择更小的尺寸。",
    "{name} was trained for pictures of {sizes}, and {size} is none of them: expect broken things; {remedy}.": (
        "{name} 只学过 {sizes} 的图像，{size} 不在其中：画面可能残缺，请{remedy}。"
    ),
    "choose one of these": "选择其中之一",
    "crop the first reference to the shape of one of these": "把第一张参考图裁剪成其中之一的形状",
    "the picture keeps its first reference's": "图片沿用第一张参考图的尺寸",
    "sides are multiples of 32 pixels": "边长须为 32 像素的倍数",
}
_LAYOUTS = {
    "The layout is empty; give its preview or its target, or leave the layout out.": (
        "布局是空的；请给出草图或完整布局，或不用布局。"
    ),
    "The layout's {name} has {rows} rows of {columns} codes, a picture of {size} has {rows_of} of {columns_of}; ask for"
    " the size that the layout was made for.": (
        "布局的{name}为 {rows} 行 × {columns} 个编码，而 {size} 的图片需要 {rows_of} 行 × {columns_of} 个；"
        "请使用该布局原来的尺寸。"
    ),
    "The layout has the code {largest} and this checkpoint's go up to {most}; use the checkpoint that the layout was"
    " drawn with.": "布局中有编码 {largest}，而此模型的编码最大为 {most}；请使用绘制该布局的模型。",
    "The layout in the settings is not a grid of codes; it cannot be used.": "设置中的布局不是编码网格，无法使用。",
}
_PICTURES = {
    "The picture {name} is not a file; choose a picture.": "{name} 不是文件；请选择图片。",
    "The picture {name} cannot be opened ({why}); choose another file.": (
        "图片 {name} 无法打开（{why}）；请选择其他文件。"
    ),
    "The picture {name} has more than {size} MB; save it smaller.": "图片 {name} 超过 {size} MB；请存小一些。",
    "The file {name} is empty and no picture; choose another.": "文件 {name} 是空的，不是图片；请另选一个。",
    "The picture {name} has more than {millions} million pixels; save it smaller.": (
        "图片 {name} 超过 {millions} 百万像素；请存小一些。"
    ),
    "The file {name} is no picture that can be read; use one of {kinds}.": (
        "文件 {name} 不是可读取的图片；请使用 {kinds} 之一。"
    ),
    "The picture {name} is damaged ({why}); save it again or choose another.": (
        "图片 {name} 已损坏（{why}）；请重新保存，或另选一张。"
    ),
    "The picture {name} has {size} pixels, more than {millions} million; save it smaller.": (
        "图片 {name} 为 {size} 像素，超过 {millions} 百万像素；请存小一些。"
    ),
    "The picture {name} has {size} pixels; choose one of at least {least} a side.": (
        "图片 {name} 只有 {size} 像素；请选择边长至少 {least} 的图片。"
    ),
    "The picture {name} has {size} pixels, longer than {most}:1; crop it first.": (
        "图片 {name} 为 {size} 像素，长宽比超过 {most}:1；请先裁剪。"
    ),
    "The reference {name} is too long for the model; crop it to less than {most}:1.": (
        "参考图 {name} 对模型来说太长；请裁剪到 {most}:1 以内。"
    ),
    "The file {name} is not a picture that can be read; choose another.": "文件 {name} 不是可读取的图片；请另选一个。",
    "The file did not arrive; choose it again.": "文件没有传到；请重新选择。",
    "The file has more than {size} MB; choose a smaller one.": "文件超过 {size} MB；请选择较小的文件。",
    "The picture cannot be kept in {folder} ({why}); check the data folder.": (
        "图片无法保存到 {folder}（{why}）；请检查数据文件夹。"
    ),
    "The picture cannot be written to {path} ({why}); choose another place.": (
        "图片无法写入 {path}（{why}）；请换个位置。"
    ),
    "The mask has no file; choose a picture or leave the mask out.": "蒙版没有文件；请选择图片，或不用蒙版。",
    "The mask has {size} pixels, another shape than its picture of {other}; draw it on that picture.": (
        "蒙版为 {size} 像素，与 {other} 的图片形状不同；请在那张图片上绘制蒙版。"
    ),
    "The mask marks nothing; paint white over what may change.": "蒙版没有标出任何地方；请用白色涂抹可以改变的部分。",
    "The mask has too many strokes; wipe it and use a larger brush.": "蒙版的笔画太多；请清空，并用大一些的画笔。",
    "The strokes of the mask did not arrive; paint them again.": "蒙版的笔画没有传到；请重新涂抹。",
    "Nothing is marked; paint over what may change, or change the whole picture.": (
        "还没有标出任何地方；请涂抹可以改变的部分，或修改整张图片。"
    ),
}
_BOXES = {
    "There is no text box; draw one, or use text to image.": "还没有文字框；请画一个，或改用“创作”。",
    "There are {count} boxes; a picture takes {most} at most, remove some.": (
        "有 {count} 个文字框；一张图最多 {most} 个，请删掉一些。"
    ),
    "The {name} of a box is not a text of at most {most} letters; shorten it.": (
        "文字框的{name}不是 {most} 个字符以内的文字；请缩短。"
    ),
    "The boxes that the page sent cannot be read; reload the page.": "页面传来的文字框无法读取；请重新载入页面。",
    "Box {number} has no text; write what it should say or remove it.": (
        "文字框 {number} 没有文字；请写下内容，或删除它。"
    ),
    "A region has no text; write what it should say or remove the region.": (
        "有一个区域没有文字；请写下内容，或删除它。"
    ),
    "The region cell {cell} is not a column and a row; write both, from 1.": (
        "文本框的起点 {cell} 不是列和行；请从 1 开始写出两者。"
    ),
    "The keeping {keep} is neither true nor false; choose one, or leave it out.": (
        "“保留”设置 {keep} 既不是 true 也不是 false；请选择其一，或不填。"
    ),
    "The region box {box} is not left, top, right, bottom between 0 and 1; draw it inside the picture.": (
        "区域框 {box} 不是 0 到 1 之间的左、上、右、下；请画在图片之内。"
    ),
    "The text {text} has every kind of quotation mark, so that none can stand around it; leave one kind out.": (
        "文字 {text} 用到了所有种类的引号，无法再加引号；请去掉其中一种。"
    ),
    "The region's text {text} does not stand in quotation marks in the prompt; write it there.": (
        "区域文字 {text} 没有以引号写在提示词里；请写进去。"
    ),
}
_PROOFS = {
    "The number of attempts {attempts} is not between 1 and {most}; 3 is usual.": (
        "尝试次数（{attempts}）必须在 1 到 {most} 之间；通常为 3。"
    ),
    "RapidOCR, which reads the pictures, cannot be loaded ({why}); install requirements.txt again.": (
        "用于读取图片文字的 RapidOCR 无法载入（{why}）；请重新安装 requirements.txt。"
    ),
    "{fault}; attempt {attempt} of {attempts}.": "{fault}；第 {attempt} 次尝试，共 {attempts} 次。",
    "Picture {number} reads {read} where it should say {wanted}": "第 {number} 张图应写 {wanted}，识别为 {read}",
    "Picture {number} shows nothing to read where it should say {wanted}": (
        "第 {number} 张图应写 {wanted}，却识别不到文字"
    ),
}
_SETTINGS = {
    "The settings lack their picture's number or seeds; they cannot be used.": "设置中缺少图片编号或种子，无法使用。",
    "The settings are not of version {version}; open the picture with the version that wrote it.": (
        "设置的版本不是 {version}；请用写入它的版本打开图片。"
    ),
    "The settings in {name} are damaged; they cannot be used.": "{name}中的设置已损坏，无法使用。",
    "the picture": "图片",
    "What was read in the picture is damaged in its settings; they cannot be used.": (
        "设置中的校对结果已损坏，无法使用。"
    ),
    "The picture carries no settings that this program can read.": "这张图片没有本程序能读取的设置。",
    "The picture {name}, which it was made from, is not here; bring it again.": (
        "制作它所用的图片 {name} 不在这里；请重新放入。"
    ),
    "The negative prompt “{text}” was left out: this model has none.": (
        "反向提示词“{text}”已略去：此模型没有反向提示词。"
    ),
    "It was made with “{model}”: the same seed gives another picture here.": (
        "它由“{model}”制作：同一种子在这里会得到不同的图片。"
    ),
    "Without meaning here: {names}.": "在这里没有意义：{names}。",
    "The prompt cannot be used. {error}": "提示词无法使用。{error}",
    "It carries no prompt.": "它没有附带提示词。",
    "The lora “{name}” was left out: it belongs to another model.": "LoRA“{name}”已略去：它属于其他模型。",
    "The {kind} “{name}” was left out: it belongs to another model.": "{kind}“{name}”已略去：它属于其他模型。",
    "The weights of words, as in (fog:1.2), were left out: this model knows none.": (
        "词语权重（如 (fog:1.2)）已略去：此模型不支持。"
    ),
    "The size “{text}” was left out: it is none.": "尺寸“{text}”已略去：它不是尺寸。",
    "The size {given} became {size}: sides are multiples of 32.": "尺寸 {given} 已改为 {size}：边长须为 32 的倍数。",
    "{name} {value} was left out: it is not in the range of this program.": "{name} {value} 已略去：超出本程序的范围。",
}
_KEPT = {
    "This picture is no longer there; choose another.": "这张图片已经不在了；请另选一张。",
    "A picture carries at most {most} tags; remove some first.": "一张图片最多 {most} 个标签；请先移除一些。",
    "The file {path} cannot be changed ({why}); check its folder.": (
        "文件 {path} 无法更改（{why}）；请检查其所在文件夹。"
    ),
    "The file {path} cannot be written ({why}); make room there.": "文件 {path} 无法写入（{why}）；请腾出空间。",
    "There is no picture to pack; choose some first.": "没有可打包的图片；请先选择。",
    "The index {path} cannot be used ({why}); try again, or delete it: it is made again from the pictures.": (
        "索引 {path} 无法使用（{why}）；请重试，或删除它：程序会根据图片重新建立。"
    ),
    "{name} cannot be cleared; choose one of {names}.": "{name} 无法清除；请从 {names} 中选择。",
    "This subject is not in the trash; it may be back already.": "这个主角不在回收站里；可能已经恢复了。",
    "The subject has no name; give it one, as it shall be called in prompts.": (
        "这个主角还没有名字；请起一个在提示词中使用的名字。"
    ),
    "The name has {length} letters; {most} are allowed.": "名字有 {length} 个字符；最多 {most} 个。",
    "There is a subject called “{name}” already; choose another name.": "已经有名为“{name}”的主角；请换个名字。",
    "This subject is no longer in the library; choose another.": "这个主角已不在库中；请另选一个。",
    "The subject's picture cannot be kept ({why}).": "主角的图片无法保存（{why}）。",
    "The subject cannot be kept in {folder} ({why}).": "主角无法保存到 {folder}（{why}）。",
    "The subject cannot be moved to {folder} ({why}).": "主角无法移到 {folder}（{why}）。",
}
_PRESETS = {
    "The preset cannot be used: {error}.": "预设无法使用：{error}。",
    "The preset {path} is left out: {why}.": "已略过预设 {path}：{why}。",
    "it is no JSON": "它不是 JSON",
    "it is too large": "它太大",
    "it is not a JSON object": "它不是 JSON 对象",
    "it has unknown fields {names}": "它含有未知字段 {names}",
    "its kind {kind} is none of {kinds}": "它的类型 {kind} 不属于 {kinds}",
    "a preset of kind {kind} needs {lacking}": "{kind}预设需要{lacking}",
    "its {name} is neither text nor an object with en and zh": "它的{name}既不是文字，也不是含 en 和 zh 的对象",
    "its {name} is empty or longer than {most} characters": "它的{name}为空，或超过 {most} 个字符",
    "its {name} {value} is not a whole number between 32 and 4096": "它的{name}（{value}）不是 32 到 4096 之间的整数",
    "its regions are not a list of at most {most}": "它的区域不是最多 {most} 项的列表",
    "its settings are not an object": "它的设置不是对象",
    "its setting {name} = {value} is unknown or out of range": "它的设置 {name} = {value} 未知或超出范围",
    "its thumbnail is no picture as a data URL": "它的缩略图不是 data URL 形式的图片",
    "The file is too large for presets; choose one that was exported here.": (
        "文件太大，不像预设；请选择从这里导出的文件。"
    ),
    "The file is no JSON that can be read; choose one that was exported here.": (
        "文件不是可读取的 JSON；请选择从这里导出的文件。"
    ),
    "The file holds no presets; choose one that was exported here.": "文件里没有预设；请选择从这里导出的文件。",
    "This preset is not one of yours; choose another.": "这不是你的预设；请另选一个。",
    "The preset cannot be stored ({why}); make room and try again.": "预设无法保存（{why}）；请腾出空间后重试。",
    "The preset {path} has an empty list or a number that is below 1 or too large; correct it.": (
        "预设 {path} 有空列表，或有小于 1 或过大的数；请改正。"
    ),
    "The preset {path} is not usable ({why}); correct it or restore the original.": (
        "预设 {path} 无法使用（{why}）；请改正，或恢复原文件。"
    ),
    "The preset {path} cannot be read ({why}); correct it or restore the original.": (
        "预设 {path} 无法读取（{why}）；请改正，或恢复原文件。"
    ),
    "The preset {path} is not a JSON object; write it as one.": "预设 {path} 不是 JSON 对象；请写成对象。",
}
_NAMES = {
    "prompt": "提示词",
    "width": "宽",
    "height": "高",
    "width and height": "宽和高",
    "count": "数量",
    "seed": "种子",
    "layout seed": "布局种子",
    "paint seed": "绘制种子",
    "number of steps": "步数",
    "steps": "步数",
    "guidance": "引导强度",
    "temperature": "温度",
    "task": "任务",
    "mask": "蒙版",
    "content": "内容保留",
    "region strength": "文字强度",
    "references": "参考图",
    "regions": "区域",
    "reference": "参考图",
    "region": "区域",
    "sampling": "采样设置",
    "layout": "布局",
    "request": "请求",
    "box": "文字框",
    "reference path": "参考图路径",
    "reference role": "参考图的类别",
    "reference name": "参考图的名字",
    "region text": "区域文字",
    "region color": "区域颜色",
    "region style": "区域字体",
    "region align": "区域对齐方式",
    "region box": "区域框",
    "layout's preview": "布局草图",
    "layout's target": "完整布局",
    "preview": "草图",
    "target": "完整布局",
    "text": "文字",
    "color": "颜色",
    "style": "风格",
    "edit": "修改",
    "size": "尺寸",
    "template": "文字版式",
    "name": "名称",
    "words": "文字",
    "Seed": "种子",
    "Steps": "步数",
    "CFG scale": "引导强度",
}
_SYSTEM = {
    "No such file or directory": "文件不存在",
    "Permission denied": "没有权限",
    "Operation not permitted": "没有权限",
    "No space left on device": "磁盘已满",
    "Disk quota exceeded": "超出磁盘配额",
    "Read-only file system": "磁盘只读",
    "Is a directory": "这是文件夹",
    "Not a directory": "不是文件夹",
    "File exists": "文件已存在",
    "File name too long": "文件名太长",
    "Too many levels of symbolic links": "这是符号链接",
    "Input/output error": "读写错误",
}
"""What Python says for the system."""

FAULTS = {
    **_REQUEST,
    **_SIZES,
    **_LAYOUTS,
    **_PICTURES,
    **_BOXES,
    **_PROOFS,
    **_SETTINGS,
    **_KEPT,
    **_PRESETS,
    **_NAMES,
    **_SYSTEM,
}
