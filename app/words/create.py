"""What the Create tab says."""

WORDS = {
    "create.prompt": ("Prompt", "提示词"),
    "create.placeholder": (
        'a cat at the top left and the word "HELLO" at the bottom, on a blue background',
        "左上角有一只猫，底部写着“你好”，蓝色背景",
    ),
    "create.welcome": ("What shall we paint?", "画点什么？"),
    "create.welcome.how": (
        "Write it in the prompt, or start with one of these.",
        "写在提示词里，或者从下面的例子开始。",
    ),
    "create.sketch": ("Sketch 6", "草图 6 张"),
    "create.paint_picked": ("Paint {count} picked", "绘制选中的 {count} 张"),
    "create.layout": (
        "The layout of this picture is kept: what is where stays, style and words hardly change, the painting does.",
        "保留这张图片的布局：内容和位置不变，风格与文字几乎不变，画面会重新绘制。",
    ),
    "create.layout.drop": ("Let it go", "不再保留"),
    "create.layout.gone": (
        "The picture whose layout is kept is not in the gallery any more; bring it back from the trash, or let it go.",
        "保留布局的图片已不在图库中；请从回收站恢复它，或不再保留其布局。",
    ),
    "create.style": ("Style", "风格"),
    "create.style.none": ("None", "不指定"),
    "create.style.new": ("New style", "新建风格"),
    "create.size.keep": ("Keep this size", "保存这个尺寸"),
    "create.size.label": ("Your sizes", "你的尺寸"),
    "create.written": ("Will be written:", "将写入画面："),
    "create.written.hint": (
        'Put words in "quotation marks" to have them written in the picture.',
        "把文字放进“引号”里，它们就会写在画面上。",
    ),
    "read.stray": ("Not closed, so nothing is read from it: {text}", "引号没有成对，其中的文字不会被读取：{text}"),
    "read.unquoted": (
        "Should this be written? Put it in quotation marks: {text}",
        "要把它写进画面吗？请加上引号：{text}",
    ),
    "read.too_long": (
        "Longer than {limit} bytes, which is more than can be written: {text}",
        "超过 {limit} 字节，无法写入：{text}",
    ),
    "read.unpractised": (
        "{name} did not learn to write this and may misspell it: {text}",
        "{name} 没有学过写这些，可能会写错：{text}",
    ),
    "read.unknown": (
        "{name} has never seen: {text}. The full model knows these words.",
        "{name} 从未见过：{text}。完整模型认识这些词。",
    ),
    "vocabulary.title": ("What {name} knows", "{name} 认识的东西"),
    "vocabulary.things": ("Things", "事物"),
    "vocabulary.styles": ("Styles", "风格"),
    "vocabulary.grounds": ("Backgrounds", "背景"),
    "vocabulary.places": ("Places", "位置"),
}
