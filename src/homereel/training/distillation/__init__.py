"""Few-step distillation: the recipe, the teacher's cached ways, the losses, the trainer, the finished model."""
