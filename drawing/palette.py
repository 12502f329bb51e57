"""Colours of all drawings."""

INK, GREEN, GREY, RED, BLUE, SLATE = "#1d2330", "#0b7a5e", "#7a8699", "#d1401f", "#3b5bdb", "#6b7280"
PAPER, MOUNT = "#ffffff", "#eef0f3"  # of a sheet, and behind a picture that does not fill its square
NO_GROUP, SMALL_GROUPS = "#c3c8d0", "#4b5563"
GROUPS = (  # tab20 of matplotlib without its greys, the strong colours first
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf",
    "#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94", "#f7b6d2", "#dbdb8d", "#9edae5")
