"""The two experiments and the rooms they share: data, training, results. Importable, not in the wheel."""
