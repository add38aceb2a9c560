"""What an evaluation showed: statistics, tables, figures, TensorBoard, video."""
