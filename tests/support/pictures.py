"""What a figure shows."""


def shown_texts(axes):
    texts = [*axes.texts, axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if low <= tick.get_loc() <= high and tick.label1.get_visible():
                texts.append(tick.label1)  # noqa: PERF401
    return [text for text in texts if text.get_text()]
